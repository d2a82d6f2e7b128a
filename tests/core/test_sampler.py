"""A sampler runs from noise to image latents and back, and tells how far it is."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from invrecon.core import lbo, multistep
from invrecon.core.denoiser import Counted
from invrecon.core.lbo import Inversion
from invrecon.core.sampler import DDIMInverter, Sampler
from invrecon.core.sampling import ddim_inversion, generate
from invrecon.settings import Effort
from tests.analytic import CurvedDenoiser, Guided, ddim_schedule, dpm_schedule

EFFORT = Effort(rtol=1e-4, max_evaluations=40)


def guided(scale: float = 1.0) -> Guided:
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    return Guided(lambda z, t, c: (0.5 + 0.5 * c[..., None]) * CurvedDenoiser(0.5)(z, t), one, 0 * one, scale)


@pytest.fixture
def samples() -> Tensor:
    return torch.randn(2, 4, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("schedule", [ddim_schedule(8), dpm_schedule(8)])
def test_it_is_generation_and_inversion_under_its_denoiser_schedule_and_effort(schedule, samples):
    sampler = Sampler(guided(), schedule, EFFORT)
    assert torch.equal(sampler.generate(samples), generate(guided(), schedule, samples))
    assert torch.equal(sampler.ddim_invert(samples), ddim_inversion(guided(), schedule, samples))
    expected = multistep.invert(guided(), schedule, samples, EFFORT)
    for mine, theirs in zip(sampler.invert(samples), expected, strict=True):
        assert mine.records == theirs.records
        assert torch.equal(mine.latents, theirs.latents)
    assert (relative_misses(sampler, samples, sampler.invert(samples)) < EFFORT.rtol).all()


def test_under_guidance_it_inverts_as_guidance_asks(samples):
    sampler = Sampler(guided(2.0), ddim_schedule(8), EFFORT)
    expected = Sampler(guided(2.0), ddim_schedule(8), EFFORT).invert(samples)
    assert [one.records for one in sampler.invert(samples)] == [one.records for one in expected]


@pytest.mark.parametrize("growth", [0.02, 0.1])
def test_under_guidance_errors_that_grow_beyond_what_was_reckoned_with_are_found_and_mended(
    monkeypatch, samples, growth
):
    monkeypatch.setattr(lbo, "growth", lambda signal: growth)
    denoiser, schedule = Counted(guided(2.0)), ddim_schedule(20)
    sampler = Sampler(denoiser, schedule, EFFORT)
    first = lbo.invert(denoiser, schedule, samples, EFFORT)
    misses = relative_misses(sampler, samples, first)
    assert (misses > EFFORT.rtol).all()
    inversions = sampler.invert(samples)
    assert (relative_misses(sampler, samples, inversions) < EFFORT.rtol).all()
    denoiser.tally.forward = 0
    [alone] = sampler.invert(samples[1:])
    assert alone.evaluations == denoiser.tally.forward == inversions[1].evaluations
    torch.testing.assert_close(inversions[1].latents, alone.latents)


def test_without_guidance_or_with_a_budget_there_is_one_attempt(monkeypatch, samples):
    monkeypatch.setattr(lbo, "growth", lambda signal: 0.02)
    schedule = ddim_schedule(20)
    for denoiser, effort in ((guided(), EFFORT), (guided(2.0), replace(EFFORT, mean_evaluations=2.0))):
        expected = lbo.invert(denoiser, schedule, samples, effort)
        inversions = Sampler(denoiser, schedule, effort).invert(samples)
        assert [one.records for one in inversions] == [one.records for one in expected]


def relative_misses(sampler: Sampler, samples: Tensor, inversions: list[Inversion]) -> Tensor:
    misses = sampler.generate(torch.cat([one.latents for one in inversions])) - samples
    return misses.flatten(1).norm(dim=1) / samples.flatten(1).norm(dim=1)


def test_a_warm_start_is_each_sample_s_own(samples):
    sampler = Sampler(guided(), ddim_schedule(8), EFFORT)
    cold = sampler.invert(samples)
    first, second = sampler.invert(samples, [cold[0], None])
    assert first.evaluations < cold[0].evaluations
    assert second.records == cold[1].records


def test_every_step_is_told_with_its_stage(samples):
    seen = []
    sampler = Sampler(guided(), ddim_schedule(3), EFFORT, lambda *step: seen.append(step))
    inversions = sampler.invert(samples)
    sampler.invert(samples, inversions)
    sampler.generate(samples)
    sampler.generate(samples, "generating")
    sampler.ddim_invert(samples)
    stages = ["inverting", "inverting again", "regenerating", "generating", "comparing: DDIM inversion"]
    assert seen == [(stage, done, 3) for stage in stages for done in (1, 2, 3)]


def test_ddim_inversion_in_its_place_keeps_no_records(samples):
    sampler = DDIMInverter(guided(), ddim_schedule(8), EFFORT)
    inversions = sampler.invert(samples)
    assert torch.equal(torch.cat([one.latents for one in inversions]), sampler.ddim_invert(samples))
    assert [(one.records, one.noises, one.evaluations, one.solved) for one in inversions] == [
        ([], [], 0, 0)
    ] * 2
