"""A batch gives each sample what it would get alone, and makes none pay for another."""

import math

import pytest
import torch
from torch import Tensor

from invrecon.core import lbo
from invrecon.core.lbo import Inversion, Sweep
from invrecon.settings import Effort
from invrecon.solve import STRATEGIES, Outcome
from tests.analytic import CurvedDenoiser, GaussianDenoiser, ddim_schedule

STEPS = 10


class Watched:
    """A denoiser that notes the timestep and the rows of each call."""

    def __init__(self, denoiser):
        self.denoiser, self.calls = denoiser, []

    def __call__(self, latents: Tensor, timestep: int) -> Tensor:
        self.calls.append((timestep, len(latents)))
        return self.denoiser(latents, timestep)


class Uneven:
    """Samples whose first latent is high are further from affine, and so take longer."""

    def __init__(self):
        self.curved, self.gaussian = CurvedDenoiser(2.5), GaussianDenoiser()

    def __call__(self, latents: Tensor, timestep: int) -> Tensor:
        hard = torch.sigmoid(8 * latents[:, :1, :1, :1])
        return torch.lerp(self.gaussian(latents, timestep), self.curved(latents, timestep), hard)


@pytest.fixture
def samples() -> Tensor:
    """Four samples, alike in nothing: sizes, means, and how hard `Uneven` makes them."""
    z = torch.randn(4, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z = z * torch.tensor([0.1, 0.5, 1.0, 3.0], dtype=torch.float64).view(-1, 1, 1, 1)
    z[:, 0, 0, 0] = torch.tensor([-2.0, 2.0, -2.0, 2.0])
    return z


def invert(denoiser, schedule, image_latents: Tensor, **effort) -> Inversion:
    """One sample alone."""
    [inversion] = lbo.invert(denoiser, schedule, image_latents, Effort(**effort))
    return inversion


def evaluations(inversion: Inversion) -> list[int]:
    return [record.evaluations for record in inversion.records]


@pytest.mark.parametrize("solver", sorted(STRATEGIES))
def test_each_sample_of_a_batch_has_the_seed_known_in_closed_form(solver, samples):
    denoiser, schedule = GaussianDenoiser(), ddim_schedule(5)
    inversions = lbo.invert(
        denoiser, schedule, samples, Effort(solver=solver, rtol=1e-10, max_evaluations=400)
    )
    seeds = torch.cat([one.latents for one in inversions])
    torch.testing.assert_close(seeds, denoiser.exact_seed(schedule, samples), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    "options", [{}, {"solver": "adam"}, {"mean_evaluations": 4}, {"rtol": 1e-8}], ids=str
)
def test_a_sample_s_records_are_those_it_has_alone(options, samples):
    denoiser, schedule = Uneven(), ddim_schedule(STEPS)
    alone = [invert(denoiser, schedule, one, **options) for one in samples.split(1)]
    batch = lbo.invert(denoiser, schedule, samples, Effort(**options))
    for mine, theirs in zip(batch, alone, strict=True):
        assert evaluations(mine) == evaluations(theirs)
        assert [record.outcome for record in mine.records] == [record.outcome for record in theirs.records]
        assert [record.residual for record in mine.records] == pytest.approx(
            [record.residual for record in theirs.records], rel=1e-3
        )
        torch.testing.assert_close(mine.latents, theirs.latents, rtol=1e-6, atol=1e-8)
    assert len({one.evaluations for one in batch}) > 1 or "mean_evaluations" in options


def test_a_sample_that_has_solved_a_step_is_evaluated_no_more(samples):
    watched = Watched(Uneven())
    inversions = lbo.invert(watched, ddim_schedule(STEPS), samples)
    assert sum(rows for _, rows in watched.calls) == sum(one.evaluations for one in inversions)
    for record_of_each in zip(*(one.records for one in inversions), strict=True):
        at_this_step = [rows for timestep, rows in watched.calls if timestep == record_of_each[0].timestep]
        needs = [record.evaluations for record in record_of_each]
        assert at_this_step == [sum(need > call for need in needs) for call in range(max(needs))]


def test_there_is_an_inversion_for_each_sample_with_tensors_of_its_own(samples):
    inversions = lbo.invert(CurvedDenoiser(), ddim_schedule(STEPS), samples)
    assert len(inversions) == len(samples)
    for one in inversions:
        assert one.latents.shape == (1, 4, 8, 8)
        assert [noise.shape for noise in one.noises] == [(1, 4, 8, 8)] * STEPS
        assert len(one.records) == STEPS


def test_each_sample_may_have_a_budget_of_its_own(samples):
    schedule, budget = ddim_schedule(STEPS), Effort(mean_evaluations=4)
    left = [25, 40, 40, 30]
    batch = lbo.invert(Uneven(), schedule, samples, budget, sweep=Sweep([0.0] * STEPS, left))
    for sample, one in enumerate(batch):
        assert 0.85 * left[sample] <= one.evaluations <= left[sample]
    alone = invert(Uneven(), schedule, samples[1:2], mean_evaluations=4)
    assert evaluations(batch[1]) == evaluations(alone)


def test_steps_are_told_once_for_all_samples(samples):
    seen = []
    lbo.invert(CurvedDenoiser(), ddim_schedule(STEPS), samples, on_step=lambda *step: seen.append(step))
    assert seen == [(done, STEPS) for done in range(1, STEPS + 1)]


def test_steps_are_taken_side_by_side(samples):
    watched = Watched(Uneven())
    lbo.invert(watched, ddim_schedule(STEPS), samples)
    timesteps = [timestep for timestep, _ in watched.calls]
    assert timesteps == sorted(timesteps)


def test_gradients_are_taken_sample_by_sample(samples):
    watched = Watched(Uneven())
    lbo.invert(watched, ddim_schedule(STEPS), samples, Effort(solver="adam"))
    first, *others = [rows for _, rows in watched.calls]
    assert first == 4  # the plain prediction has no gradient
    assert others == [1] * len(others)


@pytest.mark.parametrize("harm", [math.nan, math.inf, 1e6])
def test_a_sample_that_goes_astray_leaves_the_others_untouched(harm, samples):
    schedule, good = ddim_schedule(STEPS), Uneven()

    def denoiser(latents: Tensor, timestep: int) -> Tensor:
        bad = (latents[:, 1:2, :1, :1].abs() > 50).to(latents.dtype)
        harmed = harm * latents if timestep > 500 else torch.zeros_like(latents)
        return torch.where(bad.bool(), harmed, good(latents, timestep))

    wild = samples.clone()
    wild[2, 1, 0, 0] = 1000.0
    inversions = lbo.invert(denoiser, schedule, wild)
    assert inversions[2].latents.isfinite().all()
    assert any(record.outcome is not Outcome.CONVERGED for record in inversions[2].records)
    for number in (0, 1, 3):
        alone = invert(good, schedule, samples[number : number + 1])
        assert evaluations(inversions[number]) == evaluations(alone)
        torch.testing.assert_close(inversions[number].latents, alone.latents, rtol=1e-6, atol=1e-8)


def test_a_warm_start_is_each_sample_s_own(samples):
    denoiser, schedule = Uneven(), ddim_schedule(STEPS)
    cold = lbo.invert(denoiser, schedule, samples)
    again = lbo.invert(denoiser, schedule, samples, warm=[cold[0], None, cold[2], cold[3]])
    assert evaluations(again[1]) == evaluations(cold[1])
    for number in (0, 2, 3):
        assert again[number].evaluations < cold[number].evaluations


def test_numbers_are_read_for_all_samples_at_once(samples, monkeypatch):
    """One transfer from the device for each call of the network, and one for each step's end, however many
    samples there are.
    """
    transfers, tolist, schedule = [], Tensor.tolist, ddim_schedule(STEPS)
    monkeypatch.setattr(Tensor, "tolist", lambda tensor: (transfers.append(len(tensor)), tolist(tensor))[1])
    monkeypatch.setattr(Tensor, "item", lambda tensor: pytest.fail("read a number by itself"))
    monkeypatch.setattr(Tensor, "__bool__", lambda tensor: pytest.fail("read a truth by itself"))
    watched = Watched(CurvedDenoiser(0.1))
    monkeypatch.setattr(watched.denoiser.gaussian, "abar", tolist(watched.denoiser.gaussian.abar))
    monkeypatch.setattr(watched.denoiser.gaussian, "affine", lambda timestep: (0.3, 0.1))
    same = samples[:1].expand(4, -1, -1, -1)
    lbo.invert(watched, schedule, same)
    # the first prediction reads nothing; the sizes are read before
    assert len(transfers) == len(watched.calls) - 1 + STEPS + 1
