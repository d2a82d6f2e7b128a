import pytest
import torch

from invrecon.core.denoiser import Counted
from invrecon.core.sampling import generate
from invrecon.core.transition import transitions
from tests.analytic import CurvedDenoiser, GaussianDenoiser, Guided, ddim_schedule


def conditional(latents, timestep, condition):
    return latents * condition.mean((1, 2)).view(-1, 1, 1, 1)


def test_guidance_is_the_formula_and_one_call():
    latents, calls = torch.randn(2, 4, 3, 3), []
    positive, negative = torch.full((1, 2, 2), 3.0), torch.full((1, 2, 2), 1.0)

    def counting(*arguments):
        calls.append(len(arguments[0]))
        return conditional(*arguments)

    guided = Guided(counting, positive, negative, 7.5)(latents, 10)
    torch.testing.assert_close(guided, latents * (1 + 7.5 * 2))
    assert calls == [4]


def test_guidance_1_is_the_unguided_path_and_asks_for_one_branch():
    latents, seen = torch.randn(1, 4, 3, 3), []

    def counting(latents, timestep, condition):
        seen.append(len(latents))
        return conditional(latents, timestep, condition)

    positive, negative = torch.full((1, 2, 2), 3.0), torch.full((1, 2, 2), float("nan"))
    assert torch.equal(
        Guided(counting, positive, negative, 1.0)(latents, 10), conditional(latents, 10, positive)
    )
    assert seen == [1]


def test_backward_passes_are_counted_as_two():
    counted = Counted(CurvedDenoiser())
    latents = torch.randn(1, 4, 3, 3, requires_grad=True)
    counted(latents, 10).sum().backward()
    counted(latents.detach(), 10)
    assert (counted.forward, counted.backward, counted.evaluations) == (2, 1, 4)


def test_up_undoes_down_when_the_noise_is_right():
    latents = torch.randn(1, 4, 5, 5, dtype=torch.float64)
    for transition in transitions(CurvedDenoiser(), ddim_schedule(10)):
        target = transition.down(latents)
        noise = transition.denoiser(latents, transition.timestep)
        torch.testing.assert_close(transition.up(target, noise), latents)
        torch.testing.assert_close(transition.implied_noise(target, latents), noise, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("steps", [10, 20, 50])
def test_ddim_approaches_the_exact_flow_of_a_gaussian(steps):
    """The probability flow maps N(0, I) onto N(mean, variance I); DDIM's error falls with the number of
    steps.
    """
    denoiser = GaussianDenoiser(mean=0.3, variance=0.5)
    errors = []
    for count in (steps, 2 * steps):
        schedule = ddim_schedule(count)
        a2 = denoiser.abar[schedule.timesteps[0]].item()
        spread = (a2 * 0.5 + 1 - a2) ** 0.5
        seed = torch.linspace(-2, 2, 9, dtype=torch.float64).view(1, 1, 3, 3)
        end2 = denoiser.abar[max(schedule.timesteps[-1] - 1000 // count, 0)].item()
        exact = end2**0.5 * 0.3 + (seed - a2**0.5 * 0.3) / spread * (end2 * 0.5 + 1 - end2) ** 0.5
        errors.append((generate(denoiser, schedule, seed) - exact).abs().max().item())
    assert errors[1] < 0.7 * errors[0]
