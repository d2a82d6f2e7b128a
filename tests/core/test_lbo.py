from itertools import pairwise

import pytest
import torch

from invrecon.core import lbo
from invrecon.core.denoiser import Counted
from invrecon.core.lbo import Inversion, growth
from invrecon.core.peers import make_peer
from invrecon.core.sampling import ddim_inversion, generate
from invrecon.core.transition import transitions
from invrecon.metrics import latent_fidelity
from invrecon.settings import Effort
from invrecon.solve import STRATEGIES, Outcome
from tests.analytic import CurvedDenoiser, GaussianDenoiser, ddim_schedule

SOLVERS = sorted(STRATEGIES)


def invert(denoiser, schedule, image_latents: torch.Tensor, **effort) -> Inversion:
    [inversion] = lbo.invert(denoiser, schedule, image_latents, Effort(**effort))
    return inversion


@pytest.fixture
def image_latents() -> torch.Tensor:
    return torch.randn(1, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [4, 10, 50])
def test_gaussian_seed_is_the_one_known_in_closed_form(solver, steps, image_latents):
    denoiser, schedule = GaussianDenoiser(), ddim_schedule(steps)
    inversion = invert(denoiser, schedule, image_latents, solver=solver, rtol=1e-10, max_evaluations=400)
    torch.testing.assert_close(
        inversion.latents, denoiser.exact_seed(schedule, image_latents), rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize("solver", SOLVERS)
def test_generation_returns_the_image_latents_in_float64(solver, image_latents):
    denoiser, schedule = CurvedDenoiser(), ddim_schedule(20)
    inversion = invert(denoiser, schedule, image_latents, solver=solver, rtol=1e-10, max_evaluations=500)
    assert all(record.outcome is Outcome.CONVERGED for record in inversion.records)
    assert (generate(denoiser, schedule, inversion.latents) - image_latents).abs().max() < 1e-9


def test_solvers_agree_on_one_seed(image_latents):
    schedule = ddim_schedule(10)
    seeds = [
        invert(
            CurvedDenoiser(), schedule, image_latents, solver=solver, rtol=1e-10, max_evaluations=500
        ).latents
        for solver in SOLVERS
    ]
    for seed in seeds[1:]:
        torch.testing.assert_close(seed, seeds[0], rtol=1e-7, atol=1e-7)


def test_plain_ddim_inversion_is_far_worse_than_lbo(image_latents):
    denoiser, schedule = CurvedDenoiser(), ddim_schedule(20)
    plain = generate(denoiser, schedule, ddim_inversion(denoiser, schedule, image_latents))
    ours = generate(denoiser, schedule, invert(denoiser, schedule, image_latents).latents)
    assert latent_fidelity(image_latents, ours) > latent_fidelity(image_latents, plain) + 30


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_map_that_does_not_contract_never_gives_nan_and_never_claims_convergence_falsely(
    solver, image_latents
):
    denoiser, schedule = CurvedDenoiser(strength=60.0), ddim_schedule(10)
    inversion = invert(denoiser, schedule, image_latents, solver=solver, rtol=1e-9, max_evaluations=12)
    assert inversion.latents.isfinite().all()
    assert any(record.outcome is not Outcome.CONVERGED for record in inversion.records)


def test_a_denoiser_that_returns_nan_is_survived(image_latents):
    inversion = invert(lambda z, t: z * (float("nan") if t > 500 else 0.1), ddim_schedule(10), image_latents)
    assert inversion.latents.isfinite().all()
    assert {record.outcome for record in inversion.records if record.timestep > 500} == {Outcome.DIVERGED}


@pytest.mark.parametrize("solver", SOLVERS)
def test_records_say_which_method_found_each_step(solver, image_latents):
    easy = invert(CurvedDenoiser(), ddim_schedule(10), image_latents, solver=solver)
    assert {record.method for record in easy.records} == {"anderson" if solver == "auto" else solver}
    hard = invert(CurvedDenoiser(strength=5.0), ddim_schedule(10), image_latents, solver=solver, rtol=1e-6)
    fallbacks = {"auto": {"anderson", "damped", "adam"}}
    assert {record.method for record in hard.records} == fallbacks.get(solver, {solver})


def test_inversion_counts_the_steps_that_are_solved(image_latents):
    hard = invert(CurvedDenoiser(60.0), ddim_schedule(10), image_latents, max_evaluations=12)
    solved = (Outcome.CONVERGED, Outcome.ROUNDED)
    assert 0 < hard.solved == sum(record.outcome in solved for record in hard.records) < 10


def test_arguments_may_be_given_by_name(image_latents):
    named = lbo.invert(
        denoiser=CurvedDenoiser(), schedule=ddim_schedule(4), image_latents=image_latents, effort=Effort()
    )
    torch.testing.assert_close(
        named[0].latents, invert(CurvedDenoiser(), ddim_schedule(4), image_latents).latents
    )


def test_the_way_down_misses_by_less_than_rtol(image_latents):
    """What the steps' residuals, checked or foretold, add up to in the regenerated latents is what rtol
    allows.
    """
    denoiser, schedule = CurvedDenoiser(), ddim_schedule(20)
    for rtol in (1e-2, 1e-4, 1e-6):
        inversion = invert(denoiser, schedule, image_latents, rtol=rtol)
        way_down = generate(denoiser, schedule, inversion.latents)
        assert all(record.outcome is Outcome.CONVERGED for record in inversion.records)
        assert 1e-3 * rtol < ((way_down - image_latents).norm() / image_latents.norm()).item() < rtol


def test_tolerances_fall_as_errors_grow(image_latents):
    schedule = ddim_schedule(20)
    inversion = invert(CurvedDenoiser(), schedule, image_latents, rtol=1e-6)
    for record, signal in zip(inversion.records, reversed(schedule.signal), strict=True):
        assert record.residual < 3 * 1e-6 / 20 / growth(signal) * 1.001


@pytest.mark.parametrize("variance", [0.01, 0.3, 1.0, 10.0, 1e4])
def test_an_error_grows_on_the_way_down_by_no_more_than_foretold(variance):
    steps = transitions(GaussianDenoiser(variance=variance), ddim_schedule(200))[::-1]
    gain, one = 1.0, torch.ones(1, dtype=torch.float64)
    for below, above in pairwise(steps):
        gain *= (below.down(one) - below.down(0 * one)).item()
        assert 0 < gain < growth(above.signal)


def test_evaluations_are_those_that_the_network_saw(image_latents):
    calls = 0

    def denoiser(latents: torch.Tensor, timestep: int) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return CurvedDenoiser()(latents, timestep)

    inversion = invert(denoiser, ddim_schedule(20), image_latents)
    assert inversion.evaluations == sum(record.evaluations for record in inversion.records) == calls
    calls = 0
    inversion = invert(denoiser, ddim_schedule(20), image_latents, solver="adam")
    assert inversion.evaluations == 3 * calls - 2  # a backward pass is two; the first prediction has none


@pytest.mark.parametrize("steps", [10, 20])
def test_a_budget_is_spent_and_kept_and_buys_fidelity(steps, image_latents):
    schedule, fidelities = ddim_schedule(steps), []
    for budget in (2, 3, 5):
        counted = Counted(CurvedDenoiser())
        inversion = invert(counted, schedule, image_latents, mean_evaluations=budget)
        assert 0.9 * budget * steps <= counted.evaluations <= budget * steps
        fidelities.append(
            latent_fidelity(image_latents, generate(CurvedDenoiser(), schedule, inversion.latents))
        )
    assert fidelities == sorted(fidelities)


def test_no_budget_is_spent_on_the_last_digits_of_a_slow_step(image_latents):
    """In float32 the second step, which contracts slowly, could take all there is."""

    def denoiser(latents: torch.Tensor, timestep: float) -> torch.Tensor:
        return CurvedDenoiser()(latents.double(), timestep).float()

    schedule, coarse = ddim_schedule(20), image_latents.float()
    inversion = invert(denoiser, schedule, coarse, mean_evaluations=40)
    assert inversion.evaluations < 20 * 20
    assert all(record.outcome.solved for record in inversion.records)
    assert latent_fidelity(coarse, generate(denoiser, schedule, inversion.latents)) > 110


@pytest.mark.parametrize("budget", [5, 10])
def test_a_budget_is_kept_where_a_step_can_t_be_solved(budget, image_latents):
    """A network that jumps about: damping and gradients would be tried without end, at the cost of all other
    steps.
    """
    counted = Counted(lambda latents, timestep: torch.sin(1e6 * latents))
    inversion = invert(counted, ddim_schedule(10), image_latents, mean_evaluations=budget)
    assert counted.evaluations <= 10 * budget
    assert counted.backward == 0
    assert any(not record.outcome.solved for record in inversion.records)


@pytest.mark.parametrize("budget", [2, 3, 5])
@pytest.mark.parametrize("peer", ["FPI", "AIDI-E", "AIDI-A"])
def test_with_the_evaluations_of_a_peer_lbo_comes_closer(peer, budget, image_latents):
    denoiser, schedule = CurvedDenoiser(), ddim_schedule(20)
    theirs = make_peer(peer, budget).invert(denoiser, schedule, image_latents).latents
    ours = invert(denoiser, schedule, image_latents, mean_evaluations=budget).latents
    fidelity = {
        name: latent_fidelity(image_latents, generate(denoiser, schedule, z))
        for name, z in (("theirs", theirs), ("ours", ours))
    }
    assert fidelity["ours"] > fidelity["theirs"]
