"""Inversion under guidance, and the search for the largest scale on maps whose border is known."""

import math
from dataclasses import dataclass

import pytest
import torch

from invrecon.core import lbo
from invrecon.core.denoiser import Counted
from invrecon.core.guidance import largest_guidance
from invrecon.core.sampler import Sampler
from invrecon.core.sampling import generate
from invrecon.metrics import latent_fidelity
from invrecon.settings import Effort
from invrecon.solve import Outcome
from tests.analytic import CurvedDenoiser, Guided, ddim_schedule


@dataclass
class Attempt:
    scale: float
    holds: bool


@pytest.mark.parametrize("highest", [7.5, 15.0, 30.1])
@pytest.mark.parametrize("border", [1.0, 1.3, 4.0, 7.4])
def test_bisection_finds_the_border_to_its_resolution(border, highest):
    starts = {}

    def attempt(scale, smaller):
        starts[scale] = smaller and smaller.scale
        return Attempt(scale, scale <= border)

    scale, tried = largest_guidance(attempt, highest)
    assert scale <= border < scale + 0.25
    scales = [each.scale for each in tried]
    assert scales == sorted(set(scales))
    assert len(scales) <= 3 + math.log2(highest / 0.25)
    assert starts.pop(1.0) is None
    assert all(start < scale and start <= border for scale, start in starts.items())


def test_a_search_without_a_border_ends_at_once():
    assert largest_guidance(lambda scale, _: Attempt(scale, True), 15) == (
        15,
        [Attempt(1, True), Attempt(15, True)],
    )
    assert largest_guidance(lambda scale, _: Attempt(scale, False), 15) == (1, [Attempt(1, False)])
    assert largest_guidance(lambda scale, _: Attempt(scale, True), 1) == (1, [Attempt(1, True)])


def test_the_search_finds_where_an_affine_map_stops_contracting():
    """eps = w k z, so f(z) = (z_s - B w k z) / A contracts under plain iteration where w < min A / (k
    |B|).
    """
    schedule, k = ddim_schedule(10), 0.5
    border = min(A / (k * abs(B)) for A, B in zip(schedule.A, schedule.B, strict=True) if B)
    latents = torch.randn(1, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    conditions = torch.ones(1, 1, 1, dtype=torch.float64), torch.zeros(1, 1, 1, dtype=torch.float64)

    def attempt(scale, _):
        denoiser = Guided(lambda z, t, condition: k * condition[..., None] * z, *conditions, scale)
        [inversion] = lbo.invert(denoiser, schedule, latents, Effort(solver="picard", max_evaluations=400))
        return Attempt(scale, all(record.outcome is Outcome.CONVERGED for record in inversion.records))

    scale, _ = largest_guidance(attempt, 15)
    assert 2 < border < 15
    assert scale <= border < scale + 0.25


@pytest.mark.parametrize("solver", ["auto", "anderson"])
def test_samples_whose_steps_fail_are_inverted_by_way_of_no_guidance_and_the_better_inversion_is_kept(solver):
    """Guidance 3 is too much for one sample of the two, in so few iterations; in the other, a small one, no
    noise is seen.
    """
    curved, schedule = CurvedDenoiser(), ddim_schedule(10)
    one = torch.ones(1, 1, 1, dtype=torch.float64)

    def seen(z):
        return (torch.linalg.vector_norm(z, dim=(1, 2, 3), keepdim=True) > 1).to(z)

    def network(z, t, condition):
        return curved(z, t) * (0.4 + 0.6 * condition[..., None]) * seen(z)

    denoiser = Counted(Guided(network, one, 0 * one, 3.0))
    hard = torch.randn(1, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    latents = torch.cat((hard, 0.001 * hard))
    effort = Effort(solver=solver, max_evaluations=15)
    cold = lbo.invert(denoiser, schedule, latents, effort)
    done = [all(record.outcome is Outcome.CONVERGED for record in one.records) for one in cold]
    assert done == [False, True]
    alone = Sampler(denoiser, schedule, effort).invert(latents[:1])
    denoiser.tally.forward = 0
    both = Sampler(denoiser, schedule, effort).invert(latents)
    assert torch.equal(both[1].latents, cold[1].latents)
    torch.testing.assert_close(both[0].latents, alone[0].latents)
    fidelity = [
        latent_fidelity(hard, generate(denoiser, schedule, one.latents)) for one in (cold[0], both[0])
    ]
    assert fidelity[1] >= fidelity[0]
    denoiser.tally.forward = 0
    [again] = Sampler(denoiser, schedule, effort).invert(hard)
    assert again.evaluations == denoiser.forward
    [easy] = Sampler(denoiser, schedule, Effort(solver=solver)).invert(latents[1:])
    assert easy.records[0].evaluations < 5
