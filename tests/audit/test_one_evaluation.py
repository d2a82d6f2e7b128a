"""One evaluation a step: Uni-Inv, IFE, and LBO with the least budget, held against closed forms."""

import math
from itertools import pairwise

import pytest
import torch

from invrecon.core import lbo
from invrecon.core.denoiser import Counted
from invrecon.core.extrapolation import Cautious, Extrapolation
from invrecon.core.peers.noise_levels import noise_levels
from invrecon.core.sampling import generate
from invrecon.core.transition import transitions
from invrecon.metrics import latent_fidelity
from invrecon.settings import Effort
from tests.analytic import CurvedDenoiser, GaussianDenoiser, ddim_schedule
from tests.audit.peers import guide, part, seed


def seed_of(name, denoiser, schedule, image_latents):
    """z_T by a peer at a budget of 1, or by "LBO"."""
    if name == "LBO":
        [inversion] = lbo.invert(denoiser, schedule, image_latents, Effort(mean_evaluations=1))
        return inversion.latents
    return seed(name, 1, guide(denoiser), schedule, image_latents)


@pytest.mark.parametrize(("name", "order"), [("DDIM", 1), ("IFE", 1), ("Uni-Inv", 2), ("LBO", 3)])
def test_orders_of_convergence_to_the_seed_known_in_closed_form(name, order, image_latents):
    """From the middle of the trajectory up, where the coefficients are smooth in t."""
    denoiser, errors = GaussianDenoiser(), []
    for steps in (50, 100, 200):
        schedule = part(ddim_schedule(steps), 0, steps // 2)
        exact = denoiser.exact_seed(schedule, image_latents)
        errors.append((seed_of(name, denoiser, schedule, image_latents) - exact).norm().item())
    assert [math.log2(coarse / fine) for coarse, fine in pairwise(errors)] == pytest.approx(
        [order, order], abs=0.1
    )


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("steps", [10, 20, 50])
def test_lbo_comes_closer_than_all_others_at_one_evaluation_a_step(steps, strength, image_latents):
    denoiser, schedule = CurvedDenoiser(strength), ddim_schedule(steps)
    fidelity = {
        name: latent_fidelity(
            image_latents, generate(denoiser, schedule, seed_of(name, denoiser, schedule, image_latents))
        )
        for name in ("DDIM", "IFE", "Uni-Inv", "LBO")
    }
    assert fidelity["LBO"] > max(fidelity["DDIM"], fidelity["IFE"], fidelity["Uni-Inv"]) + 2


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_the_least_budget_is_one_evaluation_more_than_there_are_steps(steps, image_latents):
    counted = Counted(CurvedDenoiser())
    batch = torch.cat((image_latents, 0.5 * image_latents, image_latents.flip(-1)))
    inversions = lbo.invert(counted, ddim_schedule(steps), batch, Effort(mean_evaluations=1))
    assert counted.evaluations == steps + 1
    assert [one.evaluations for one in inversions] == [steps + 1] * 3


def test_the_least_budget_predicts_once_and_corrects_once(image_latents):
    """z_t = (z_s - B eps(z, t)) / A  at  z = (z_s - B e) / A, where e is a line through the last two eps."""
    denoiser, schedule = CurvedDenoiser(), ddim_schedule(10)
    history, latents = Extrapolation(order=1), image_latents
    for transition in reversed(transitions(denoiser, schedule)):
        e = history.predict(transition.time) if history else denoiser(latents, transition.timestep)
        eps = denoiser(transition.up(latents, e), transition.timestep)
        latents = transition.up(latents, eps)
        history.append(transition.time, eps)
    torch.testing.assert_close(seed_of("LBO", denoiser, schedule, image_latents), latents)


@pytest.mark.parametrize(("weight", "history"), [(3.0, Extrapolation), (7.5, Cautious)])
def test_strong_guidance_makes_the_least_budget_cautious(weight, history, image_latents, monkeypatch):
    monkeypatch.setattr(CurvedDenoiser, "weight", weight, raising=False)
    denoiser, schedule = CurvedDenoiser(), ddim_schedule(10)
    past, latents = history(), image_latents
    for transition in reversed(transitions(denoiser, schedule)):
        e = past.predict(transition.time) if past else denoiser(latents, transition.timestep)
        eps = denoiser(transition.up(latents, e), transition.timestep)
        latents = transition.up(latents, eps)
        past.append(transition.time, eps)
    torch.testing.assert_close(seed_of("LBO", denoiser, schedule, image_latents), latents)


@pytest.mark.parametrize("budget", [2, 5])
def test_strong_guidance_lets_no_step_take_more_than_its_share(budget, image_latents, monkeypatch):
    """Steps that hardly contract would leave one evaluation to each of the others, which then diverge."""
    monkeypatch.setattr(CurvedDenoiser, "weight", 7.5, raising=False)
    effort = Effort(mean_evaluations=budget)
    [inversion] = lbo.invert(CurvedDenoiser(12.0), ddim_schedule(20), image_latents, effort)
    assert inversion.evaluations <= 20 * budget
    left = 20 * budget
    for number, record in enumerate(inversion.records):
        first = number == 0  # which also predicts its own eps
        assert record.evaluations - first <= max(1, round(left / (20 - number)))
        left -= record.evaluations


def test_caution_trusts_a_line_by_half_as_far_as_its_last_promise_was_kept():
    """Four samples: one goes on along its line, one by half, one stays, one turns back."""
    past, kept = Cautious(), torch.tensor([1.0, 0.5, 0.0, -1.0]).view(4, 1, 1, 1)
    assert past.predict(1.0) == 0
    first, slope = torch.ones(4, 1, 2, 2), torch.full((4, 1, 2, 2), 0.5)
    past.append(1.0, first)
    assert torch.equal(past.predict(2.0), first)
    past.append(2.0, first + slope)
    assert torch.equal(past.predict(4.0), first + slope + slope)  # half of what the line promises
    last = first + slope + 2 * kept * slope
    past.append(4.0, last)
    share = kept.clamp(0, 1) / 2
    torch.testing.assert_close(past.predict(5.0), last + share * kept * slope)


def test_no_step_of_the_least_budget_claims_to_be_solved(image_latents):
    [inversion] = lbo.invert(CurvedDenoiser(), ddim_schedule(10), image_latents, Effort(mean_evaluations=1))
    assert inversion.solved == 0
    assert not any(record.checked for record in inversion.records)


@pytest.mark.parametrize("strength", [30.0, 60.0])
def test_the_least_budget_gives_finite_seeds_where_steps_do_not_contract(strength, image_latents):
    z_T = seed_of("LBO", CurvedDenoiser(strength), ddim_schedule(10), image_latents)
    assert z_T.isfinite().all()


def test_budgets_between_the_least_and_two_are_kept_and_buy_fidelity(image_latents):
    schedule, fidelities = ddim_schedule(20), []
    for budget in (1, 1.5, 2):
        counted = Counted(CurvedDenoiser())
        [inversion] = lbo.invert(counted, schedule, image_latents, Effort(mean_evaluations=budget))
        assert counted.evaluations <= max(20 * budget, 21)
        z_0 = generate(CurvedDenoiser(), schedule, inversion.latents)
        fidelities.append(latent_fidelity(image_latents, z_0))
    assert fidelities == sorted(fidelities)


def test_uni_inv_is_a_prediction_of_order_0_and_one_picard_iteration(image_latents):
    denoiser, schedule = CurvedDenoiser(), ddim_schedule(10)
    latents, eps = image_latents, denoiser(image_latents, schedule.timesteps[-1])
    for t, A, B in list(zip(schedule.timesteps, schedule.A, schedule.B, strict=True))[::-1]:
        eps = denoiser((latents - B * eps) / A, t)
        latents = (latents - B * eps) / A
    torch.testing.assert_close(seed("Uni-Inv", None, guide(denoiser), schedule, image_latents), latents)


def test_uni_inv_beats_plain_ddim_inversion(image_latents):
    denoiser, schedule = CurvedDenoiser(), ddim_schedule(20)
    plain, ours = (
        generate(denoiser, schedule, seed_of(name, denoiser, schedule, image_latents))
        for name in ("DDIM", "Uni-Inv")
    )
    assert latent_fidelity(image_latents, ours) > latent_fidelity(image_latents, plain) + 5


def test_uni_inv_with_a_large_budget_finds_the_seed_known_in_closed_form(image_latents):
    denoiser, schedule = GaussianDenoiser(), ddim_schedule(10)
    z_T = seed("Uni-Inv", 60, guide(denoiser), schedule, image_latents)
    torch.testing.assert_close(z_T, denoiser.exact_seed(schedule, image_latents), rtol=1e-9, atol=1e-9)


def test_ife_is_ddim_inversion_whose_network_is_told_the_timestep_it_comes_from(image_latents):
    denoiser, schedule = CurvedDenoiser(), ddim_schedule(10)
    up, latents = schedule.timesteps[::-1], image_latents
    for told, A, B in zip([up[0], *up[:-1]], schedule.A[::-1], schedule.B[::-1], strict=True):
        latents = (latents - B * denoiser(latents, told)) / A
    torch.testing.assert_close(seed("IFE", None, guide(denoiser), schedule, image_latents), latents)


def test_ife_is_exact_where_the_data_prediction_does_not_change():
    """A network that always sees the same picture x:  eps = (z - a x) / s."""
    schedule = ddim_schedule(10)
    levels = dict(zip(schedule.timesteps, noise_levels(schedule), strict=False))
    x = torch.linspace(-1, 1, 256, dtype=torch.float64).view(1, 4, 8, 8)

    def denoiser(latents, timestep):
        a, s = levels[timestep]
        return (latents - a * x) / s

    first = part(schedule, -1)
    z_1 = seed("DDIM", None, guide(denoiser), first, x + 0.1)
    z_T = seed("IFE", None, guide(denoiser), schedule, x + 0.1)
    (a_1, s_1), (a_T, s_T) = levels[schedule.timesteps[-1]], levels[schedule.timesteps[0]]
    torch.testing.assert_close(z_T, a_T * x + s_T * (z_1 - a_1 * x) / s_1)
