"""Track A with gradients through the network: Newton-Raphson on a scalar, and descent on the noise."""

import math

import torch
from torch import Tensor

from invrecon.core.denoiser import GuidedDenoiser
from invrecon.core.peers.fixed_point import f
from invrecon.core.peers.noise_levels import noise_levels
from invrecon.core.peers.peer import Peer, Stored, is_finite, plain_generate, step_by_step
from invrecon.core.schedule import Schedule
from invrecon.core.transition import Transition, transitions

PRIOR, GUARD = 0.1, 1e-6  # λ and η of GNRI


def gnri(evaluations: int | None = None) -> Peer:
    """Guided Newton-Raphson inversion (arXiv:2312.12540), 2 iterations from z_s:

        F(z) = ‖z - f(z)‖_1 + λ ‖z - μ‖ / β,      z_i <- z_i - F / (D (dF/dz_i + η))

    with D the latents of an image, and μ = sqrt(1 - β) z_s, β = 1 - a_t² / a_s², the mean and variance of
    q(z_t | z_s). f at the iterate of lowest F is kept, so that the last iteration needs no gradient: n
    iterations cost 3 n - 2. With a budget: as many as fit, but two at least (4 evaluations), since the first
    alone is DDIM inversion.
    """
    iterations = 2 if evaluations is None else max(2, (evaluations + 2) // 3)

    def step(transition: Transition, target: Tensor) -> Tensor:
        latents, best, lowest = target, target, math.inf
        for remaining in reversed(range(iterations)):
            value, score, slope = _newton_objective(transition, target, latents, remaining > 0)
            if not is_finite(value) or not is_finite(score):
                break
            if score.sum().item() < lowest:
                best, lowest = value, score.sum().item()
            latents = latents - score.view(-1, 1, 1, 1) / (latents[0].numel() * (slope + GUARD))
        return best

    note = (
        "λ 0.1 and keeping f(z) of the lowest F are the released code's, η 1e-6 is ours; the code's gradient "
        "leaves the network out."
    )
    return step_by_step("GNRI", step, note)


def _newton_objective(
    transition: Transition, target: Tensor, latents: Tensor, differentiate: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """f(z), F(z) of every image, (B,), and dF/dz, which is zero where it isn't asked for."""
    mean, variance = target / transition.A, max(1 - transition.A**-2, 1e-6)
    with torch.set_grad_enabled(differentiate):
        latents = latents.detach().requires_grad_(differentiate)
        value = f(transition, target, latents)
        prior = torch.linalg.vector_norm((latents - mean).flatten(1), dim=1) / variance
        score = (latents - value).abs().flatten(1).sum(1) + PRIOR * prior
        slope = torch.autograd.grad(score.sum(), latents)[0] if differentiate else torch.zeros_like(latents)
    return value.detach(), score.detach(), slope


def gradient(evaluations: int | None = None) -> Peer:
    """Descent on the noise, in the manner of PreciseInv (Zuo et al. 2025, "Precise Diffusion Inversion"):

        e <- AdamW on ‖Phi(z_t) - z_s‖²,      z_t = a_t z_0 + s_t e

    20 iterations of 3 evaluations, the learning rate falling linearly from min(0.1, 0.6 / T) to zero; e is
    carried from step to step. The first step asks for one prediction more, e = eps(z_0, t), to start from.
    With a budget: as many iterations as fit, but one at least, even below 3 evaluations.
    """

    @torch.no_grad()
    def invert(guided: GuidedDenoiser, schedule: Schedule, image_latents: Tensor) -> Stored:
        up = list(reversed(transitions(guided, schedule)))
        latents = image_latents
        noise, spent = guided(latents, up[0].timestep), 1
        noise = noise if is_finite(noise) else torch.zeros_like(noise)
        rate = min(0.1, 0.6 / len(schedule))
        for transition, (a, s) in zip(up, reversed(noise_levels(schedule)[:-1]), strict=True):
            iterations = 20 if evaluations is None else max(1, (evaluations - spent) // 3)
            noise = _descend(transition, latents, a * image_latents, s, noise, iterations, rate)
            latents, spent = a * image_latents + s * noise, 0
        return Stored(latents, {})

    note = (
        "The update rule is PreciseInv's as its abstract tells it; 20 iterations, the start and carrying e "
        "on are ours, and so is the falling rate: at a constant 0.1, published for few steps, two photos of "
        "no audit stay at 8 and 11 dB with 20; so they reach 22."
    )
    return Peer("gradient", "A", invert, plain_generate, note)


def _descend(
    transition: Transition,
    target: Tensor,
    signal: Tensor,
    s: float,
    noise: Tensor,
    iterations: int,
    rate: float,
) -> Tensor:
    """The e after so many iterations, the last finite one."""
    learnt = torch.nn.Parameter(noise.clone())
    optimizer = torch.optim.AdamW([learnt], lr=rate)
    for iteration in range(iterations):
        with torch.enable_grad():
            loss = (transition.down(signal + s * learnt) - target).square().sum()
            (slope,) = torch.autograd.grad(loss, learnt)
        if not is_finite(slope):
            break
        learnt.grad = slope
        optimizer.param_groups[0]["lr"] = rate * (1 - iteration / iterations)
        optimizer.step()
    return learnt.detach()
