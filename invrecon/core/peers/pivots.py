"""Track B around a DDIM inversion's own latents: the difference kept, or the negative embedding learnt."""

import torch
from torch import Tensor

from invrecon.core.denoiser import Guided
from invrecon.core.peers.peer import Peer, Stored, is_finite
from invrecon.core.schedule import Schedule
from invrecon.core.transition import Transition, transitions


def direct(evaluations: int | None = None) -> Peer:
    """Direct inversion (arXiv:2310.01506): what every step misses the pivot by is kept and added on the way
    down,

        d_t = z*_s - Phi(z*_t),      z_s = Phi(z_t) + d_t

    Always two evaluations a step.
    """

    @torch.no_grad()
    def invert(guided: Guided, schedule: Schedule, image_latents: Tensor) -> Stored:
        pivots = _pivots(guided, schedule, image_latents)
        steps = zip(transitions(guided, schedule), pivots, pivots[1:], strict=False)
        return Stored(
            pivots[0],
            {"offsets": torch.stack([below - transition.down(above) for transition, above, below in steps])},
        )

    @torch.no_grad()
    def generate(guided: Guided, schedule: Schedule, stored: Stored) -> Tensor:
        latents = stored.latents
        for transition, offset in zip(transitions(guided, schedule), stored.extras["offsets"], strict=True):
            latents = transition.down(latents) + offset
        return latents

    return Peer("Direct", "B", invert, generate)


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
    def invert(guided: Guided, schedule: Schedule, image_latents: Tensor) -> Stored:
        pivots = _pivots(guided, schedule, image_latents)
        latents, embedding, embeddings = pivots[0], guided.negative.expand(len(image_latents), -1, -1), []
        for i, (transition, target) in enumerate(zip(transitions(guided, schedule), pivots[1:], strict=True)):
            if guided.guidance_scale != 1:
                embedding, latents = _learn(guided, transition, latents, target, embedding, i, iterations)
            embeddings.append(embedding)
        return Stored(pivots[0], {"negatives": torch.stack(embeddings)})

    note = "Every image of a batch has embeddings of its own."
    return Peer("null-text", "B", invert, _generate_null_text, note)


@torch.no_grad()
def _generate_null_text(guided: Guided, schedule: Schedule, stored: Stored) -> Tensor:
    """The plain steps, each under its own negative embedding."""
    latents = stored.latents
    for transition, negative in zip(transitions(guided, schedule), stored.extras["negatives"], strict=True):
        own = Guided(guided.denoiser, guided.condition, negative, guided.guidance_scale)
        latents = Transition(own, transition.timestep, transition.A, transition.B).down(latents)
    return latents


def _pivots(guided: Guided, schedule: Schedule, image_latents: Tensor) -> list[Tensor]:
    """z*_T ... z*_0 by plain DDIM inversion under the condition alone (w = 1)."""
    unguided = guided.at(1.0)
    pivots = [image_latents]
    for transition in reversed(transitions(unguided, schedule)):
        pivots.append(transition.up(pivots[-1], unguided(pivots[-1], transition.timestep)))
    return pivots[::-1]


def _learn(
    guided: Guided,
    transition: Transition,
    latents: Tensor,
    target: Tensor,
    embedding: Tensor,
    number: int,
    iterations: int,
) -> tuple[Tensor, Tensor]:
    """The learnt embedding, (B, L, D), in its own dtype, and the latents that the step leads to with it."""
    positive = guided.denoiser(latents, transition.timestep, guided.condition.expand(len(latents), -1, -1))
    dtype, w = embedding.dtype, guided.guidance_scale
    learnt = torch.nn.Parameter(embedding.to(torch.promote_types(dtype, torch.float32)).clone())
    optimizer = torch.optim.Adam([learnt], lr=max(0.0, 1e-2 * (1 - number / 100)))

    def down() -> Tensor:
        negative = guided.denoiser(latents, transition.timestep, learnt.to(dtype))
        return transition.A * latents + transition.B * (negative + w * (positive - negative))

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
