"""A sampler with a memory, DPM-Solver++ from its formula, on denoisers whose inverses are known."""

import math

import pytest
import torch
from torch import Tensor

from invrecon.core import lbo, multistep
from invrecon.core.lbo import Sweep
from invrecon.core.sampling import ddim_inversion, generate
from invrecon.core.schedule import Schedule
from invrecon.metrics import latent_fidelity
from invrecon.settings import Effort
from tests.analytic import CurvedDenoiser, GaussianDenoiser, ddim_schedule, dpm_schedule

EXACT = Effort(rtol=1e-9, max_evaluations=200)


@pytest.fixture
def samples() -> Tensor:
    z = torch.randn(3, 4, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return z * torch.tensor([1.0, 0.2, 3.0], dtype=torch.float64).view(-1, 1, 1, 1)


def seeds(inversions) -> Tensor:
    return torch.cat([inversion.latents for inversion in inversions])


def test_each_seed_of_an_affine_sampler_is_the_one_known_in_closed_form(samples):
    """An affine denoiser makes the whole way down z_0 = k z_T + c."""
    denoiser, schedule = GaussianDenoiser(), dpm_schedule(20)
    zero = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    c = generate(denoiser, schedule, zero)
    k = generate(denoiser, schedule, zero + 1) - c
    inversions = multistep.invert(denoiser, schedule, samples, EXACT)
    torch.testing.assert_close(seeds(inversions), (samples - c) / k, rtol=1e-7, atol=1e-7)


def test_its_error_against_the_exact_flow_falls_as_that_of_second_order_does():
    """The probability flow maps N(0, I) onto N(mean, variance I)."""
    denoiser = GaussianDenoiser(mean=0.3, variance=0.5)
    seed = torch.linspace(-2, 2, 9, dtype=torch.float64).view(1, 1, 3, 3)

    def error(schedule: Schedule) -> float:
        first, last = denoiser.abar[schedule.timesteps[0]].item(), denoiser.abar[0].item()
        unit = (seed - first**0.5 * 0.3) / (first * 0.5 + 1 - first) ** 0.5
        exact = last**0.5 * 0.3 + unit * (last * 0.5 + 1 - last) ** 0.5
        return (generate(denoiser, schedule, seed) - exact).abs().max().item()

    assert error(dpm_schedule(100)) < error(dpm_schedule(50)) / 3
    assert error(dpm_schedule(100)) < error(ddim_schedule(100)) / 2


def test_a_batch_is_inverted_as_its_samples_alone(samples):
    denoiser, schedule, effort = CurvedDenoiser(0.5), dpm_schedule(8), Effort(rtol=1e-6)
    batch = multistep.invert(denoiser, schedule, samples, effort)
    for inversion, one in zip(batch, samples.split(1), strict=True):
        [alone] = multistep.invert(denoiser, schedule, one, effort)
        assert [record.evaluations for record in inversion.records] == [
            record.evaluations for record in alone.records
        ]
        torch.testing.assert_close(inversion.latents, alone.latents, rtol=1e-6, atol=1e-8)
    way_down = generate(denoiser, schedule, seeds(batch))
    misses = (way_down - samples).flatten(1).norm(dim=1) / samples.flatten(1).norm(dim=1)
    assert (misses < 1e-6).all()


def test_a_budget_is_kept_and_more_of_it_gains(samples):
    denoiser, schedule, fidelities = CurvedDenoiser(0.5), dpm_schedule(20), []
    for budget in (1.0, 2.0, 3.5, 8.0):
        inversions = multistep.invert(denoiser, schedule, samples, Effort(mean_evaluations=budget))
        assert all(one.evaluations <= 20 * budget + 1 for one in inversions)
        assert all(one.evaluations > 20 * (budget - 1) for one in inversions)
        fidelities.append(latent_fidelity(samples, generate(denoiser, schedule, seeds(inversions))))
    assert fidelities == sorted(fidelities)
    assert fidelities[-1] > fidelities[0] + 20


def test_evaluations_of_all_sweeps_are_counted(samples):
    rows = []

    def denoiser(latents: Tensor, timestep: float) -> Tensor:
        rows.append(len(latents))
        return CurvedDenoiser()(latents, timestep)

    inversions = multistep.invert(denoiser, dpm_schedule(10), samples)
    assert sum(rows) == sum(inversion.evaluations for inversion in inversions)


def test_offsets_along_the_sampler_s_own_trajectory_are_those_that_the_inversion_stands_still_at(samples):
    """A step in its one-step form, with its offset, is the sampler's own step."""
    denoiser, schedule = CurvedDenoiser(0.5), dpm_schedule(10)
    inversions = multistep.invert(denoiser, schedule, samples, EXACT)
    offsets = multistep.offsets_along(schedule, schedule.memory, inversions)
    assert offsets.shape == (3, 10, 4, 6, 6)
    one_step = schedule.one_step()
    again = multistep.offsets_along(one_step, schedule.memory, inversions, offsets)
    torch.testing.assert_close(again, offsets, rtol=1e-6, atol=1e-8)
    sweep = Sweep(offsets.unbind(1), [math.inf] * 3)
    swept = lbo.invert(denoiser, one_step, samples, EXACT, sweep=sweep)
    torch.testing.assert_close(seeds(swept), seeds(inversions), rtol=1e-4, atol=1e-5)


def test_a_warm_start_is_each_sample_s_own(samples):
    denoiser, schedule, effort = CurvedDenoiser(0.5), dpm_schedule(10), Effort(rtol=1e-4)
    cold = multistep.invert(denoiser, schedule, samples, effort)
    nearby = samples + 1e-3
    again = multistep.invert(denoiser, schedule, nearby, effort, warm=[cold[0], None, cold[2]])
    assert again[0].evaluations < cold[0].evaluations
    assert again[2].evaluations < cold[2].evaluations
    [alone] = multistep.invert(denoiser, schedule, nearby[1:2], effort)
    assert again[1].evaluations == alone.evaluations
    fidelity = latent_fidelity(nearby, generate(denoiser, schedule, seeds(again)))
    assert fidelity > 80
    assert fidelity > 40 + latent_fidelity(
        nearby, generate(denoiser, schedule, ddim_inversion(denoiser, schedule, nearby))
    )


@pytest.mark.parametrize("schedule", [ddim_schedule(4), dpm_schedule(4)])
def test_arguments_may_be_given_by_name(schedule, samples):
    named = multistep.invert(
        denoiser=GaussianDenoiser(), schedule=schedule, image_latents=samples, effort=Effort()
    )
    torch.testing.assert_close(seeds(named), seeds(multistep.invert(GaussianDenoiser(), schedule, samples)))


def test_without_a_memory_it_is_plain_lbo(samples):
    plain, ours = (
        invert(CurvedDenoiser(), ddim_schedule(10), samples) for invert in (lbo.invert, multistep.invert)
    )
    assert torch.equal(seeds(plain), seeds(ours))


def test_plain_lbo_refuses_a_memory(samples):
    with pytest.raises(ValueError, match=r"core\.multistep\.invert"):
        lbo.invert(CurvedDenoiser(), dpm_schedule(10), samples)


def test_a_denoiser_that_returns_nan_is_survived_and_told(samples):
    def denoiser(latents: Tensor, timestep: float) -> Tensor:
        lost = (latents.abs().amax((1, 2, 3), keepdim=True) > 5) & (timestep > 500)
        return torch.where(lost, float("nan"), CurvedDenoiser()(latents, timestep))

    small, large = samples[1:2], 100 * samples[:1]
    good, lost = multistep.invert(denoiser, dpm_schedule(10), torch.cat((small, large)))
    assert good.latents.isfinite().all()
    assert lost.latents.isfinite().all()
    assert good.solved == 10
    assert lost.solved < 10
