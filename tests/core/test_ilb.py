import math

import pytest
import torch

from invrecon.core import ilb, lbo
from invrecon.core.denoiser import Counted
from invrecon.core.health import health
from invrecon.core.loudness import loudness
from invrecon.core.sampling import ddim_inversion, generate
from tests.analytic import CurvedDenoiser, ddim_schedule

SCHEDULE = ddim_schedule(10)
MIXING = torch.linalg.qr(torch.randn(12, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[
    0
]
WEIGHT = 0.05


def decode(latents: torch.Tensor) -> torch.Tensor:
    """A linear decoder that can't reach every picture: four channels become twelve."""
    return torch.einsum("oc,bchw->bohw", MIXING, latents)


def psnr(image_latents: torch.Tensor) -> float:
    return -10 * math.log10(ilb.squared_error(decode(image_latents), PHOTO).item() / 4)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


PHOTO, ENCODED = noise(1, 12, 8, 8), noise(1, 4, 8, 8, seed=2)


def invert(image_latents: torch.Tensor, warm: lbo.Inversion | None) -> lbo.Inversion:
    return lbo.invert(CurvedDenoiser(), SCHEDULE, image_latents, rtol=1e-9, max_evaluations=100, warm=warm)


def regenerate(latents: torch.Tensor) -> torch.Tensor:
    return generate(CurvedDenoiser(), SCHEDULE, latents)


def boost(score=psnr, **budget) -> ilb.Boost:
    return ilb.boost(
        invert, regenerate, decode, ENCODED, PHOTO, score, proximal_weight=WEIGHT, budget=ilb.Budget(**budget)
    )


def best_latents(weight: float) -> torch.Tensor:
    """argmin mean((M z - x)²) / mean((M e - x)²) + weight mean((z - e)²); M has orthonormal columns, pictures 3 values to a latent."""
    back = torch.einsum("oc,bohw->bchw", MIXING, PHOTO)
    pull = weight * ilb.squared_error(decode(ENCODED), PHOTO)
    return (back / 3 + pull * ENCODED) / (1 / 3 + pull)


def test_boosting_finds_the_proximal_optimum_known_in_closed_form():
    found = boost(rounds=2, decoder_steps=60)
    torch.testing.assert_close(found.image_latents, best_latents(WEIGHT), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(regenerate(found.inversion.latents), found.image_latents, rtol=1e-6, atol=1e-6)


def test_a_larger_weight_keeps_nearer_to_the_encoder():
    distances = [
        ilb.boost(invert, regenerate, decode, ENCODED, PHOTO, psnr, proximal_weight=weight)
        .rounds[-1]
        .distance
        for weight in (0.0, 0.1, 10.0)
    ]
    assert distances[0] > distances[1] > distances[2] > 0


@pytest.mark.parametrize("wanted", [0.2, 0.4, 0.6])
def test_latents_are_moved_until_the_seed_would_be_too_loud(wanted):
    """Loudness that grows with the distance from the encoder: the optimum is that of the weight which leads just so far."""

    def volume(latents: torch.Tensor) -> tuple[float, torch.Tensor]:
        distance, unit = (latents - ENCODED).norm(), wanted * ENCODED.norm()
        return (distance / unit).item(), (latents - ENCODED) / distance / unit

    free = ilb.boost(invert, regenerate, decode, ENCODED, PHOTO, psnr, proximal_weight=WEIGHT)
    found = ilb.boost(
        invert, regenerate, decode, ENCODED, PHOTO, psnr, proximal_weight=WEIGHT, loudness=volume
    )
    assert free.rounds[-1].distance > 0.7
    assert found.rounds[-1].distance == pytest.approx(wanted, rel=0.03)
    shorter = wanted / free.rounds[-1].distance * (free.image_latents - ENCODED)
    torch.testing.assert_close(found.image_latents - ENCODED, shorter, rtol=0.1, atol=0.1)


def test_latents_give_way_where_it_costs_the_picture_nothing():
    """The last latent channel does nothing to the picture: it makes up for the loudness that the others' changes bring."""

    def blind(latents: torch.Tensor) -> torch.Tensor:
        return decode(latents * torch.tensor([1.0, 1, 1, 0], dtype=torch.float64).view(1, 4, 1, 1))

    free = ilb.boost(invert, regenerate, blind, ENCODED, PHOTO, psnr, proximal_weight=WEIGHT).image_latents
    slope = (free - ENCODED) / (free - ENCODED).square().sum()  # N is 0.5 at E(x), 1.5 at the free optimum
    slope[:, 3] = 1 / 64

    def volume(latents: torch.Tensor) -> tuple[float, torch.Tensor]:
        return 0.5 + (slope * (latents - ENCODED)).sum().item(), slope

    found = ilb.boost(
        invert, regenerate, blind, ENCODED, PHOTO, psnr, proximal_weight=WEIGHT, loudness=volume
    ).image_latents
    assert volume(free)[0] > 1.4
    assert 0.8 < volume(found)[0] < 1.03
    assert (found - free)[:, :3].norm() < 0.25 * (found - free)[:, 3].norm()


def test_a_photo_whose_plain_seed_is_too_loud_is_boosted_all_the_same():
    """Its own loudness is the limit then: here one that no change of latents alters."""
    free, found = (
        ilb.boost(
            invert, regenerate, decode, ENCODED, PHOTO, psnr, proximal_weight=WEIGHT, loudness=limit
        ).image_latents
        for limit in (None, lambda latents: (4.0, torch.full_like(latents, 1e-9)))
    )
    torch.testing.assert_close(found, free, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(("value", "slope"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan)])
def test_where_the_loudness_is_not_a_number_the_descent_ends(value, slope):
    found = ilb.boost(
        invert,
        regenerate,
        decode,
        ENCODED,
        PHOTO,
        psnr,
        loudness=lambda latents: (value, torch.full_like(latents, slope)),
    )
    assert found.rounds[-1].decoder_steps < 40
    assert found.image_latents.isfinite().all()


def test_loudness_is_the_norm_of_a_ddim_inversion_and_its_gradient():
    denoiser, image_latents = Counted(CurvedDenoiser()), ENCODED.clone()
    value, slope = loudness(denoiser, SCHEDULE, image_latents)
    assert denoiser.evaluations <= 4 * len(SCHEDULE)
    assert value == pytest.approx(health(ddim_inversion(CurvedDenoiser(), SCHEDULE, ENCODED)).norm)
    for direction in (noise(1, 4, 8, 8, seed=5), slope):
        there, back = (
            health(ddim_inversion(CurvedDenoiser(), SCHEDULE, ENCODED + h * direction)).norm
            for h in (1e-5, -1e-5)
        )
        assert (slope * direction).sum().item() == pytest.approx((there - back) / 2e-5, rel=1e-4)


def test_descent_ends_where_it_gains_no_more():
    assert boost(rounds=1, decoder_steps=1000).rounds[-1].decoder_steps < 100


def test_the_first_round_is_the_plain_inversion():
    found = boost(rounds=1)
    assert found.rounds[0].distance == found.rounds[0].decoder_steps == 0
    assert found.rounds[0].psnr == pytest.approx(psnr(ENCODED), abs=1e-4)
    torch.testing.assert_close(found.plain.latents, invert(ENCODED, None).latents)


def test_the_best_round_is_kept_and_not_the_last():
    scores = iter((20.0, 30.0, 25.0))
    found = boost(score=lambda _: next(scores), rounds=2)
    assert [done.psnr for done in found.rounds] == [20.0, 30.0, 25.0]
    assert (found.image_latents - ENCODED).norm() / ENCODED.norm() == pytest.approx(found.rounds[1].distance)
    scores = iter((20.0, 10.0, 5.0))
    torch.testing.assert_close(boost(score=lambda _: next(scores), rounds=2).image_latents, ENCODED)


@pytest.mark.parametrize(
    ("budget", "rounds"),
    [({"rounds": 0}, 1), ({"target_psnr": 1.0}, 1), ({"seconds": 0.0}, 1), ({"rounds": 3}, 4)],
)
def test_each_budget_stops_it(budget, rounds):
    assert len(boost(**budget).rounds) == rounds


def test_decoder_steps_are_bounded():
    assert (
        max(done.decoder_steps for done in boost(decoder_steps=10, rounds=1).rounds) <= 35
    )  # a line search is not cut short


def test_the_trajectory_s_leftover_is_corrected_too():
    """Where the way down misses z_0 by a constant, the second round aims beside it."""
    bias = 0.3 * noise(1, 4, 8, 8, seed=3)
    found = ilb.boost(
        invert,
        lambda z: regenerate(z) + bias,
        decode,
        ENCODED,
        PHOTO,
        psnr,
        proximal_weight=WEIGHT,
        budget=ilb.Budget(rounds=2, decoder_steps=60),
    )
    torch.testing.assert_close(found.regenerated, best_latents(WEIGHT), rtol=1e-3, atol=1e-3)


def evaluations(found: lbo.Inversion) -> int:
    return sum(record.evaluations for record in found.records)


def test_a_warm_start_from_the_same_latents_has_little_more_to_do_than_to_check():
    cold = invert(ENCODED, None)
    warm = invert(ENCODED, cold)
    assert evaluations(warm) <= 1.5 * len(SCHEDULE) < evaluations(cold)
    torch.testing.assert_close(warm.latents, cold.latents)


def test_a_warm_start_from_nearby_latents_saves_evaluations():
    near = ENCODED + 1e-3 * noise(1, 4, 8, 8, seed=4)
    assert evaluations(invert(near, invert(ENCODED, None))) < evaluations(invert(near, None))


def test_the_decoder_ceiling_is_the_least_squares_optimum():
    assert ilb.decoder_ceiling(decode, ENCODED, PHOTO, psnr) == pytest.approx(
        psnr(best_latents(0.0)), abs=0.02
    )


def test_white_noise_is_healthy_and_other_noise_is_not():
    white = noise(1, 4, 64, 64)
    smooth = torch.nn.functional.avg_pool2d(white, 3, 1, 1)
    flat = torch.rand(1, 4, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert health(white).norm == pytest.approx(1, abs=0.02)
    assert abs(health(white).autocorrelation) < 0.02
    assert health(white).normality < 0.9 / 128
    assert health(2 * white).norm == pytest.approx(2, abs=0.04)
    assert health(smooth).autocorrelation == pytest.approx(
        2 / 3, abs=0.05
    )  # boxes of 3 x 3, one step apart, share 6 of 9
    assert health(flat).normality > 0.04


def test_what_the_denoiser_takes_for_noise_is_left_and_the_rest_is_boosted():
    """A denoiser to which the first two channels are all noise and the others none: the optimum has each group's own weight."""
    noisy = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64).view(1, 4, 1, 1)
    found = ilb.boost(
        invert,
        regenerate,
        decode,
        ENCODED,
        PHOTO,
        psnr,
        proximal_weight=WEIGHT,
        noise=lambda latents: noisy * latents,
        budget=ilb.Budget(decoder_steps=60),
    )
    expected = torch.cat((best_latents(WEIGHT)[:, :2], best_latents(0.0)[:, 2:]), 1)
    torch.testing.assert_close(found.image_latents, expected, rtol=1e-3, atol=1e-3)


def test_a_denoiser_that_likes_what_is_far_away_does_not_lure_there():
    found = ilb.boost(
        invert, regenerate, decode, ENCODED, PHOTO, psnr, proximal_weight=1.0, noise=lambda latents: -latents
    )
    torch.testing.assert_close(found.image_latents, best_latents(0.0), rtol=1e-2, atol=1e-2)
