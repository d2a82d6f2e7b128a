import math

import pytest
import torch

from invrecon.core import ilb, lbo
from invrecon.core.denoiser import Counted
from invrecon.core.descent import decoder_ceiling
from invrecon.core.health import health
from invrecon.core.ilb import BoostBudget
from invrecon.core.objective import PROXIMAL_WEIGHT, Objective, squared_error
from invrecon.core.sampler import Sampler
from invrecon.core.sampling import ddim_inversion
from invrecon.core.seed_norm import seed_norm
from invrecon.settings import Effort
from tests.analytic import CurvedDenoiser, Guided, ddim_schedule

SCHEDULE = ddim_schedule(10)
MIXING = torch.linalg.qr(torch.randn(12, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[
    0
]
WEIGHT = 0.05


def decode(latents: torch.Tensor) -> torch.Tensor:
    """A linear decoder that can't reach every picture: four channels become twelve."""
    return torch.einsum("oc,bchw->bohw", MIXING, latents)


def psnr(image_latents: torch.Tensor) -> float:
    return -10 * math.log10(squared_error(decode(image_latents), PHOTO).item() / 4)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


PHOTO, ENCODED = noise(1, 12, 8, 8), noise(1, 4, 8, 8, seed=2)


NO_CONDITION = torch.zeros(1, 1, 1, dtype=torch.float64)
CURVED = Guided(lambda z, t, condition: CurvedDenoiser()(z, t), NO_CONDITION, NO_CONDITION)
SAMPLER = Sampler(CURVED, SCHEDULE, Effort(rtol=1e-9, max_evaluations=100))


def invert(image_latents: torch.Tensor, warm: lbo.Inversion | None = None) -> lbo.Inversion:
    [inversion] = SAMPLER.invert(image_latents, [warm])
    return inversion


def objective(**changes) -> Objective:
    parts = {"decode": decode, "encoded": ENCODED, "photo": PHOTO, "score": psnr, "weight": WEIGHT}
    return Objective(**parts | changes)


def boost(budget: BoostBudget = BoostBudget(), sampler: Sampler = SAMPLER, **changes) -> ilb.Boost:
    [result] = ilb.boost(sampler, [objective(**changes)], budget)
    return result


def best_latents(weight: float) -> torch.Tensor:
    """argmin mean((M z - x)²) / mean((M e - x)²) + weight mean((z - e)²); M has orthonormal columns, pictures
    3 values to a latent.
    """
    back = torch.einsum("oc,bohw->bchw", MIXING, PHOTO)
    pull = weight * squared_error(decode(ENCODED), PHOTO)
    return (back / 3 + pull * ENCODED) / (1 / 3 + pull)


def test_only_the_first_third_of_a_descent_is_in_half_precision():
    """A coarse decoder has another optimum; the descent ends at that of the decoder itself."""
    calls = []

    def counted(name, bias):
        def decoder(latents):
            calls.append(name)
            return decode(latents) + bias

        return decoder

    one = objective(decode=counted("full", 0.0), coarse=counted("half", 0.03))
    calls.clear()
    found, steps = ilb.descent(one, BoostBudget(decoder_steps=60))
    assert calls == ["half"] * 20 + ["full"] * (steps - 20)
    assert squared_error(found, best_latents(WEIGHT)).item() < 1e-8
    assert one.coarse is None


def test_boosting_finds_the_proximal_optimum_known_in_closed_form():
    boosted = boost(BoostBudget(rounds=2, decoder_steps=60))
    torch.testing.assert_close(boosted.image_latents, best_latents(WEIGHT), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        SAMPLER.generate(boosted.inversion.latents), boosted.image_latents, rtol=1e-6, atol=1e-6
    )


def test_a_larger_weight_keeps_nearer_to_the_encoder():
    distances = [boost(weight=weight).rounds[-1].distance for weight in (0.0, 0.1, 10.0)]
    assert distances[0] > distances[1] > distances[2] > 0


@pytest.mark.parametrize("wanted", [0.2, 0.4, 0.6])
def test_latents_are_moved_until_the_seed_s_norm_would_be_too_large(wanted):
    """A norm that grows with the distance from the encoder: the optimum is that of the weight which leads
    just so far.
    """

    def norm(latents: torch.Tensor) -> tuple[float, torch.Tensor]:
        distance, unit = (latents - ENCODED).norm(), wanted * ENCODED.norm()
        return (distance / unit).item(), (latents - ENCODED) / distance / unit

    free, boosted = boost(), boost(seed_norm=norm)
    assert free.rounds[-1].distance > 0.7
    assert boosted.rounds[-1].distance == pytest.approx(wanted, rel=0.03)
    shorter = wanted / free.rounds[-1].distance * (free.image_latents - ENCODED)
    torch.testing.assert_close(boosted.image_latents - ENCODED, shorter, rtol=0.1, atol=0.1)


def test_latents_give_way_where_it_costs_the_picture_nothing():
    """The last latent channel does nothing to the picture: it makes up for the norm that the others' changes
    bring.
    """

    def blind(latents: torch.Tensor) -> torch.Tensor:
        return decode(latents * torch.tensor([1.0, 1, 1, 0], dtype=torch.float64).view(1, 4, 1, 1))

    free = boost(decode=blind).image_latents
    slope = (free - ENCODED) / (free - ENCODED).square().sum()  # N is 0.5 at E(x), 1.5 at the free optimum
    slope[:, 3] = 1 / 64

    def norm(latents: torch.Tensor) -> tuple[float, torch.Tensor]:
        return 0.5 + (slope * (latents - ENCODED)).sum().item(), slope

    boosted = boost(decode=blind, seed_norm=norm).image_latents
    assert norm(free)[0] > 1.4
    assert 0.8 < norm(boosted)[0] < 1.03
    assert (boosted - free)[:, :3].norm() < 0.25 * (boosted - free)[:, 3].norm()


def test_a_photo_whose_plain_seed_is_beyond_the_norm_limit_is_boosted_all_the_same():
    """Its own norm is the limit then: here one that no change of latents alters."""
    free, boosted = (
        boost(seed_norm=limit).image_latents
        for limit in (None, lambda latents: (4.0, torch.full_like(latents, 1e-9)))
    )
    torch.testing.assert_close(boosted, free, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(("value", "slope"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan)])
def test_where_the_norm_is_not_a_number_the_descent_ends(value, slope):
    boosted = boost(
        weight=PROXIMAL_WEIGHT, seed_norm=lambda latents: (value, torch.full_like(latents, slope))
    )
    assert boosted.rounds[-1].decoder_steps < 40
    assert boosted.image_latents.isfinite().all()


def test_the_seed_norm_is_that_of_a_ddim_inversion_and_its_gradient():
    denoiser, image_latents = Counted(CurvedDenoiser()), ENCODED.clone()
    value, slope = seed_norm(denoiser, SCHEDULE, image_latents)
    assert denoiser.evaluations <= 4 * len(SCHEDULE)
    assert value == pytest.approx(health(ddim_inversion(CurvedDenoiser(), SCHEDULE, ENCODED)).norm)
    for direction in (noise(1, 4, 8, 8, seed=5), slope):
        there, back = (
            health(ddim_inversion(CurvedDenoiser(), SCHEDULE, ENCODED + h * direction)).norm
            for h in (1e-5, -1e-5)
        )
        assert (slope * direction).sum().item() == pytest.approx((there - back) / 2e-5, rel=1e-4)


def test_descent_ends_where_it_gains_no_more():
    assert boost(BoostBudget(decoder_steps=1000)).rounds[-1].decoder_steps < 100


def test_the_first_round_is_the_plain_inversion_where_it_is_asked_for():
    boosted = boost(BoostBudget(plain_first=True))
    assert boosted.rounds[0].distance == boosted.rounds[0].decoder_steps == 0
    assert boosted.rounds[0].psnr == pytest.approx(psnr(ENCODED), abs=1e-4)
    torch.testing.assert_close(boosted.plain.latents, invert(ENCODED).latents)


def test_the_best_round_is_kept_and_not_the_last():
    scores = iter((20.0, 30.0, 25.0))
    budget = BoostBudget(rounds=2, plain_first=True)
    boosted = boost(budget, score=lambda _: next(scores))
    assert [done.psnr for done in boosted.rounds] == [20.0, 30.0, 25.0]
    assert (boosted.image_latents - ENCODED).norm() / ENCODED.norm() == pytest.approx(
        boosted.rounds[1].distance
    )
    scores = iter((20.0, 10.0, 5.0))
    torch.testing.assert_close(boost(budget, score=lambda _: next(scores)).image_latents, ENCODED)


def test_without_a_plain_inversion_there_is_one_inversion_a_descent():
    boosted = boost(BoostBudget(rounds=1))
    assert [one.decoder_steps > 0 for one in boosted.rounds] == [True]
    assert boosted.plain is None
    both = boost(BoostBudget(rounds=1, plain_first=True))
    torch.testing.assert_close(boosted.image_latents, both.image_latents, rtol=1e-3, atol=1e-3)


def test_a_boosted_result_that_is_worse_than_the_encoder_s_latents_is_not_kept():
    """Scores by distance from E(x): all that descent does is a loss."""
    boosted = boost(score=lambda latents: -(latents - ENCODED).norm().item())
    assert [one.decoder_steps > 0 for one in boosted.rounds] == [True, False]
    torch.testing.assert_close(boosted.image_latents, ENCODED)
    torch.testing.assert_close(boosted.inversion.latents, boosted.plain.latents)


@pytest.mark.parametrize(
    ("budget", "rounds"),
    [({"rounds": 0}, 1), ({"target_psnr": 1.0}, 1), ({"seconds": 0.0}, 1), ({"rounds": 3}, 4)],
)
def test_each_budget_stops_it(budget, rounds):
    assert len(boost(BoostBudget(plain_first=True, **budget)).rounds) == rounds


def test_decoder_steps_are_bounded():
    rounds = boost(BoostBudget(decoder_steps=10)).rounds
    assert max(one.decoder_steps for one in rounds) <= 35  # a line search is not cut short


def test_the_trajectory_s_leftover_is_corrected_too():
    """Where the way down misses z_0 by a constant, the second round aims beside it."""
    bias = 0.3 * noise(1, 4, 8, 8, seed=3)

    class Biased(Sampler):
        def generate(self, latents: torch.Tensor, stage: str = "") -> torch.Tensor:
            return super().generate(latents) + bias

    boosted = boost(BoostBudget(rounds=2, decoder_steps=60), Biased(CURVED, SCHEDULE, SAMPLER.effort))
    torch.testing.assert_close(boosted.regenerated, best_latents(WEIGHT), rtol=1e-3, atol=1e-3)


def test_a_warm_start_from_the_same_latents_has_little_more_to_do_than_to_check():
    cold = invert(ENCODED)
    warm = invert(ENCODED, cold)
    assert warm.evaluations <= 1.5 * len(SCHEDULE) < cold.evaluations
    torch.testing.assert_close(warm.latents, cold.latents)


def test_a_warm_start_from_nearby_latents_saves_evaluations():
    near = ENCODED + 1e-3 * noise(1, 4, 8, 8, seed=4)
    assert invert(near, invert(ENCODED)).evaluations < invert(near).evaluations


def test_the_decoder_ceiling_is_the_least_squares_optimum():
    assert decoder_ceiling(decode, ENCODED, PHOTO, psnr) == pytest.approx(psnr(best_latents(0.0)), abs=0.02)


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
    """A denoiser to which the first two channels are all noise and the others none: the optimum has each
    group's own weight.
    """
    noisy = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64).view(1, 4, 1, 1)
    boosted = boost(BoostBudget(decoder_steps=60), noise=lambda latents: noisy * latents)
    expected = torch.cat((best_latents(WEIGHT)[:, :2], best_latents(0.0)[:, 2:]), 1)
    torch.testing.assert_close(boosted.image_latents, expected, rtol=1e-3, atol=1e-3)


def test_a_denoiser_that_likes_what_is_far_away_does_not_lure_there():
    boosted = boost(weight=1.0, noise=lambda latents: -latents)
    torch.testing.assert_close(boosted.image_latents, best_latents(0.0), rtol=1e-2, atol=1e-2)
