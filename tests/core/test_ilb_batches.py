"""Photos boosted together: inversions are shared, and each photo has its own rounds and its own best."""

import math
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

from invrecon.core import ilb, lbo
from invrecon.core.ilb import Boost, BoostBudget
from invrecon.core.lbo import Inversion
from invrecon.core.objective import Objective, squared_error
from invrecon.core.sampling import generate
from tests.analytic import CurvedDenoiser, ddim_schedule

GENERATOR = torch.Generator().manual_seed(1)
MIXING = torch.linalg.qr(torch.randn(12, 4, dtype=torch.float64, generator=GENERATOR))[0]
PHOTOS = torch.randn(4, 12, 8, 8, dtype=torch.float64, generator=GENERATOR).split(1)
SIZES = torch.tensor([0.1, 0.5, 1.0, 3.0], dtype=torch.float64).view(-1, 1, 1, 1)
ENCODED = (SIZES * torch.randn(4, 4, 8, 8, dtype=torch.float64, generator=GENERATOR)).split(1)


def decode(latents: Tensor) -> Tensor:
    return torch.einsum("oc,bchw->bohw", MIXING, latents)


def objective(photo: int, **changes) -> Objective:
    def score(latents: Tensor) -> float:
        return -10 * math.log10(squared_error(decode(latents), PHOTOS[photo]).item() / 4)

    parts = {"decode": decode, "encoded": ENCODED[photo], "photo": PHOTOS[photo], "score": score}
    return Objective(**parts | {"weight": 0.05} | changes)


@dataclass
class Recorded:
    """All that boosting needs of a sampler; notes how many samples each call had, and which were warm."""

    inverted: list[tuple[int, int]] = field(default_factory=list)
    generated: list[int] = field(default_factory=list)

    def invert(self, image_latents: Tensor, warm: list[Inversion] | tuple = ()) -> list[Inversion]:
        self.inverted.append((len(image_latents), len(warm)))
        return lbo.invert(CurvedDenoiser(), ddim_schedule(5), image_latents, warm=warm)

    def generate(self, latents: Tensor) -> Tensor:
        self.generated.append(len(latents))
        return generate(CurvedDenoiser(), ddim_schedule(5), latents)


def assert_alike(mine: Boost, theirs: Boost) -> None:
    assert [one.psnr for one in mine.rounds] == pytest.approx([one.psnr for one in theirs.rounds], abs=1e-3)
    assert [one.evaluations for one in mine.rounds] == [one.evaluations for one in theirs.rounds]
    assert [one.decoder_steps for one in mine.rounds] == [one.decoder_steps for one in theirs.rounds]
    torch.testing.assert_close(mine.image_latents, theirs.image_latents, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(mine.regenerated, theirs.regenerated, rtol=1e-5, atol=1e-7)


def test_boosting_photos_together_is_boosting_each():
    sampler, budget = Recorded(), BoostBudget(rounds=2, decoder_steps=10, plain_first=True)
    together = ilb.boost(sampler, [objective(photo) for photo in range(4)], budget)
    assert sampler.inverted == [(4, 0), (4, 4), (4, 4)]
    assert sampler.generated == [4, 4, 4]
    for photo, mine in enumerate(together):
        [alone] = ilb.boost(Recorded(), [objective(photo)], budget)
        assert_alike(mine, alone)


def test_photos_that_are_done_leave_the_inversions():
    """Each photo has reached the target after as many rounds as its number."""
    sampler, budget = Recorded(), BoostBudget(rounds=9, decoder_steps=10, target_psnr=50.0, plain_first=True)
    scores = [iter([10.0] * photo + [60.0]) for photo in range(4)]
    objectives = [objective(photo, score=lambda _, own=own: next(own)) for photo, own in enumerate(scores)]
    together = ilb.boost(sampler, objectives, budget)
    assert sampler.inverted == [(4, 0), (3, 3), (2, 2), (1, 1)]
    assert sampler.generated == [4, 3, 2, 1]
    assert [len(boost.rounds) for boost in together] == [1, 2, 3, 4]
    for photo, mine in enumerate(together):
        budget = BoostBudget(rounds=photo, decoder_steps=10, plain_first=True)
        [alone] = ilb.boost(Recorded(), [objective(photo)], budget)
        assert [one.evaluations for one in mine.rounds] == [one.evaluations for one in alone.rounds]


def test_inversions_that_are_known_are_not_made_again():
    sampler, objectives = Recorded(), [objective(photo) for photo in range(2)]
    known = lbo.invert(CurvedDenoiser(), ddim_schedule(5), torch.cat(ENCODED[:2]))
    budget = BoostBudget(decoder_steps=10, plain_first=True)
    boosts = ilb.boost(sampler, objectives, budget, known=known)
    assert sampler.inverted == [(2, 2)]
    for mine, plain, alike in zip(boosts, known, ilb.boost(Recorded(), objectives, budget), strict=True):
        assert mine.plain is plain
        assert_alike(mine, alike)


def test_photos_share_passes_through_the_decoder_as_far_as_the_memory_allows():
    passes = []

    def counted(latents: Tensor) -> Tensor:
        if latents.requires_grad:
            passes.append(len(latents))
        return decode(latents)

    boosts = [
        ilb.boost(
            Recorded(),
            [objective(photo, decode=counted) for photo in range(4)],
            BoostBudget(decoder_steps=10),
            at_once=at_once,
        )
        for at_once in (4, 3, 1)
    ]
    assert passes == [4] * 10 + [3, 1] * 10 + [1] * 40
    for others in boosts[1:]:
        for mine, theirs in zip(boosts[0], others, strict=True):
            assert_alike(mine, theirs)


def test_each_photo_has_its_own_part_of_the_decoded_picture_and_its_own_count():
    def cut(photo: int) -> Objective:
        def seen(pixels: Tensor) -> Tensor:
            return pixels[..., : 8 - photo]

        return replace(objective(photo), seen=seen, photo=seen(PHOTOS[photo]))

    objectives, budget = [cut(photo) for photo in range(2)], BoostBudget(decoder_steps=10)
    together = ilb.boost(Recorded(), objectives, budget, at_once=2)
    assert [one.evaluations for one in objectives] == [11, 11]
    for photo, mine in enumerate(together):
        assert_alike(mine, ilb.boost(Recorded(), [cut(photo)], budget)[0])


def test_decoder_steps_are_told():
    seen = []
    objectives, budget = [objective(photo) for photo in range(2)], BoostBudget(decoder_steps=10)
    ilb.boost(Recorded(), objectives, budget, on_step=lambda *step: seen.append(step))
    assert set(seen) == {(10, 10)}
