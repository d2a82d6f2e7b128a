"""Refinement of seeds on a denoiser whose sampler is affine."""

import pytest
import torch

from invrecon.core.denoiser import Counted
from invrecon.core.refinement import refine
from invrecon.core.sampling import generate
from invrecon.core.shell import project
from tests.analytic import CurvedDenoiser, GaussianDenoiser, ddim_schedule

SCHEDULE = ddim_schedule(4)


def noise(seed: int, count: int = 1) -> torch.Tensor:
    return torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_seed_moves_along_the_shell_to_the_one_reference():
    denoiser = GaussianDenoiser()
    wanted, start = project(noise(0)), project(noise(1))
    found = refine(denoiser, SCHEDULE, start, generate(denoiser, SCHEDULE, wanted), steps=150, rate=0.05)
    assert found.after < 0.01 * found.before
    assert found.latents.norm() == pytest.approx(start.norm())
    assert (found.latents - wanted).norm() < 0.1 * (start - wanted).norm()


def test_distances_are_those_of_the_sampler_and_never_grow():
    denoiser, goals, start = CurvedDenoiser(), noise(2, 3), project(noise(3))

    def distance(seed):
        made = generate(denoiser, SCHEDULE, seed)
        return min((made - goal).norm().item() ** 2 / goal.norm().item() ** 2 for goal in goals)

    for rate in (0.02, 100.0):  # the second overshoots
        found = refine(denoiser, SCHEDULE, start, goals, steps=4, rate=rate)
        assert found.before == pytest.approx(distance(start))
        assert found.after == pytest.approx(distance(found.latents))
        assert found.after <= found.before


def test_a_gradient_costs_four_evaluations_a_step_of_the_sampler():
    counted = Counted(CurvedDenoiser())
    found = refine(counted, SCHEDULE, project(noise(0)), noise(1), steps=3)
    assert found.evaluations == 4 * len(SCHEDULE) * 3 + len(SCHEDULE)
    assert counted.forward == 2 * len(SCHEDULE) * 3 + len(SCHEDULE)
