"""Track B around the latents z*_t of a DDIM inversion, the pivots. What leads back to them is kept: an offset
or a latent bias for each step, or a learnt negative embedding.
"""

from functools import partial

import torch
from torch import Tensor

from invrecon.core.denoiser import GuidedDenoiser
from invrecon.core.lbo import growth
from invrecon.core.peers.fixed_point import f
from invrecon.core.peers.peer import Peer, Stored, is_finite
from invrecon.core.schedule import Schedule
from invrecon.core.transition import Transition, transitions
from invrecon.settings import Effort
from invrecon.solve import Criterion, make_strategy


def direct(evaluations: int | None = None) -> Peer:
    """Direct inversion (arXiv:2310.01506): what every step misses the pivot by is kept and added on the way
    down,

        d_t = z*_s - Phi(z*_t),      z_s = Phi(z_t) + d_t

    Always two evaluations a step.
    """

    @torch.no_grad()
    def invert(guided: GuidedDenoiser, schedule: Schedule, image_latents: Tensor) -> Stored:
        pivots = _pivots(guided, schedule, image_latents)
        steps = zip(transitions(guided, schedule), pivots, pivots[1:], strict=False)
        return Stored(
            pivots[0],
            {"offsets": torch.stack([below - transition.down(above) for transition, above, below in steps])},
        )

    @torch.no_grad()
    def generate(guided: GuidedDenoiser, schedule: Schedule, stored: Stored) -> Tensor:
        latents = stored.latents
        for transition, offset in zip(transitions(guided, schedule), stored.extras["offsets"], strict=True):
            latents = transition.down(latents) + offset
        return latents

    return Peer("Direct", "B", invert, generate)


def lbo_biases(evaluations: int | None = None) -> Peer:
    """LBO with its biases kept. Each step up is plain DDIM inversion; its bias b_t is kept and added to the
    latents on the way down, before the sampler's step:

        z*_t = (z*_s - B eps(z*_s, t)) / A,      b_t = argmin_b ‖Phi(z*_t + b) - z*_s‖²
        z_s = Phi(z_t + b_t)

    Kept are z*_T and T biases, (T, B, C, h, w) from noise to image. Each bias is solved as in `core.lbo`, to
    the same tolerance, from b = 0. With a budget of n: one evaluation for z*_t and n - 1 iterations, but one
    at least (2 evaluations).
    """
    effort = Effort()
    iterations = effort.max_evaluations if evaluations is None else max(1, evaluations - 1)

    @torch.no_grad()
    def invert(guided: GuidedDenoiser, schedule: Schedule, image_latents: Tensor) -> Stored:
        strategy = make_strategy("auto" if evaluations is None else "anderson", len(image_latents))
        pivot, biases = image_latents, []
        for transition in reversed(transitions(guided, schedule)):
            target, start = pivot, transition.up(pivot, guided(pivot, transition.timestep))
            pivot = start if is_finite(start) else target
            rtol = effort.rtol / (growth(transition.signal) * len(schedule)) if evaluations is None else 0.0
            scales = (target.flatten(1).norm(dim=1) / transition.A).tolist()
            criteria = [Criterion(rtol, iterations, scale or 1.0) for scale in scales]
            solution = strategy(
                partial(_fixed_point, transition, target), pivot, criteria, transition.B / transition.A
            )
            biases.append(solution.x - pivot)
        return Stored(pivot, {"biases": torch.stack(biases[::-1])})

    @torch.no_grad()
    def generate(guided: GuidedDenoiser, schedule: Schedule, stored: Stored) -> Tensor:
        latents = stored.latents
        for transition, bias in zip(transitions(guided, schedule), stored.extras["biases"], strict=True):
            latents = transition.down(latents + bias)
        return latents

    note = (
        "The paper's public digest leaves open whether b_t is added on the way down; in this reading it is."
    )
    return Peer("LBO+biases", "B", invert, generate, note)


def _fixed_point(transition: Transition, target: Tensor, latents: Tensor, rows: Tensor) -> Tensor:
    """f(z) of some samples, (n, C, h, w); `rows` says which, (n,)."""
    return f(transition, target[rows], latents)


def null_text(evaluations: int | None = None) -> Peer:
    """Null-text inversion (arXiv:2211.09794): the negative embedding of every step, learnt so that guided
    steps meet the pivots,

        c_t = argmin_c mean (Phi(z_t; c) - z*_s)²,      eps(z, t; c) = eps(z, t, c) + w (eps(z, t, c_pos) -
        eps(z, t, c))

    Step i takes at most 10 iterations of Adam with rate 1e-2 (1 - i / 100), from the embedding before, and
    stops below 1e-5 + 2e-5 i. With w = 1 the embedding has no effect, and none is learnt. A step costs 3
    evaluations (pivot, condition, result) and 3 an iteration. With a budget: as many iterations as fit, but
    one at least (6 evaluations).
    """
    iterations = 10 if evaluations is None else max(1, (evaluations - 3) // 3)

    @torch.no_grad()
    def invert(guided: GuidedDenoiser, schedule: Schedule, image_latents: Tensor) -> Stored:
        pivots = _pivots(guided, schedule, image_latents)
        latents, embedding, embeddings = pivots[0], guided.negative.expand(len(image_latents), -1, -1), []
        for i, (transition, target) in enumerate(zip(transitions(guided, schedule), pivots[1:], strict=True)):
            if guided.weight != 1:
                embedding, latents = _learn(guided, transition, latents, target, embedding, i, iterations)
            embeddings.append(embedding)
        return Stored(pivots[0], {"negatives": torch.stack(embeddings)})

    note = "Every image of a batch has embeddings of its own."
    return Peer("null-text", "B", invert, _generate_null_text, note)


@torch.no_grad()
def _generate_null_text(guided: GuidedDenoiser, schedule: Schedule, stored: Stored) -> Tensor:
    """The plain steps, each under its own negative embedding."""
    latents = stored.latents
    for transition, negative in zip(transitions(guided, schedule), stored.extras["negatives"], strict=True):
        positive = guided.unguided()(latents, transition.timestep)
        latents = transition.step(latents, _mixed(guided, transition, latents, positive, negative))
    return latents


def _mixed(
    guided: GuidedDenoiser, transition: Transition, latents: Tensor, positive: Tensor, embedding: Tensor
) -> Tensor:
    """eps(z, t; c) of the formula above: `positive` is eps(z, t, c_pos), `embedding` the negative c."""
    if guided.weight == 1:
        return positive
    negative = guided.under(embedding)(latents, transition.timestep)
    return negative + guided.weight * (positive - negative)


def _pivots(guided: GuidedDenoiser, schedule: Schedule, image_latents: Tensor) -> list[Tensor]:
    """z*_T ... z*_0 by plain DDIM inversion under the condition alone (w = 1)."""
    unguided = guided.unguided()
    pivots = [image_latents]
    for transition in reversed(transitions(unguided, schedule)):
        pivots.append(transition.up(pivots[-1], unguided(pivots[-1], transition.timestep)))
    return pivots[::-1]


def _learn(
    guided: GuidedDenoiser,
    transition: Transition,
    latents: Tensor,
    target: Tensor,
    embedding: Tensor,
    number: int,
    iterations: int,
) -> tuple[Tensor, Tensor]:
    """The learnt embedding, (B, L, D), in its own dtype, and the latents that the step leads to with it."""
    positive, dtype = guided.unguided()(latents, transition.timestep), embedding.dtype
    learnt = torch.nn.Parameter(embedding.to(torch.promote_types(dtype, torch.float32)).clone())
    optimizer = torch.optim.Adam([learnt], lr=max(0.0, 1e-2 * (1 - number / 100)))

    def down() -> Tensor:
        return transition.step(latents, _mixed(guided, transition, latents, positive, learnt.to(dtype)))

    for _ in range(iterations):
        with torch.enable_grad():
            loss = (down() - target).square().mean()
            (slope,) = torch.autograd.grad(loss, learnt)
        if not is_finite(slope):
            break
        learnt.grad = slope
        optimizer.step()
        if loss.item() < 1e-5 + 2e-5 * number:
            break
    return learnt.detach().to(dtype), down()
