"""Seeds moved by gradients to where their pictures come closer to references.

After SeedSelect (Samuel et al. 2023, arXiv:2304.14530), reduced to its appearance term; the few-step sampler,
and that the seed stays on the Gaussian shell, are our own choices.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from invrecon.core.denoiser import Counted, Denoiser
from invrecon.core.schedule import Schedule
from invrecon.core.shell import project
from invrecon.core.transition import transitions


@dataclass(frozen=True)
class Refinement:
    """A refined seed, (1, C, h, w), with its distance to the references and what it took.

    Args:
        before, after: `distance` of what the sampler makes of the given seed, and of this one.
        evaluations: of the network, a backward pass counted as two.
    """

    latents: Tensor
    before: float
    after: float
    evaluations: int


def distance(image_latents: Tensor, references: Tensor) -> Tensor:
    """min_i ‖z_0 - z_0i‖² / ‖z_0i‖², a scalar: image latents (1, C, h, w) against the nearest of n references
    (n, C, h, w).
    """
    return (
        (image_latents - references).square().flatten(1).sum(1) / references.square().flatten(1).sum(1)
    ).min()


def refine(
    denoiser: Denoiser,
    schedule: Schedule,
    seed: Tensor,
    references: Tensor,
    *,
    steps: int,
    rate: float = 0.02,
    on_step: Callable[[int, int], None] | None = None,
) -> Refinement:
    """Adam on the seed, back through the whole sampler:

        argmin_z min_i ‖generate(z) - z_0i‖² / ‖z_0i‖²,      z on the Gaussian shell

    so that a seed goes to the reference that its picture is nearest to, not to an average of all, which is a
    blur. What the backward pass needs is made anew step by step (gradient checkpointing): it takes the memory
    of one evaluation, and 4 evaluations for each step of the sampler.

    Args:
        schedule: of fewer steps than the final one, since each gradient passes through all of them; but not
            so few that the final one makes something else of the seed.
        seed: z_T, (1, C, h, w), on the shell.
        references: image latents z_0i, (n, C, h, w).
        steps: gradients taken, >= 1.
        rate: Adam's; about the most that a value moves in a step, in deviations of the noise.

    Returns:
        The best seed seen, at worst the given one.
    """
    counted = Counted(denoiser)

    def sample(latents: Tensor) -> Tensor:
        for transition in transitions(counted, schedule):
            latents = checkpoint(transition.down, latents, use_reentrant=False)
        return latents

    free = seed.clone().requires_grad_()
    optimizer = torch.optim.Adam([free], lr=rate)
    seen: list[tuple[float, Tensor]] = []
    for done in range(steps + 1):
        latents = project(free)
        with torch.set_grad_enabled(done < steps):
            value = distance(sample(latents), references)
        seen.append((value.item(), latents.detach()))
        if done < steps:
            free.grad = torch.autograd.grad(value, free)[0]
            optimizer.step()
        if on_step:
            on_step(done, steps)
    after, best = min(seen, key=lambda pair: pair[0])
    return Refinement(best, seen[0][0], after, counted.evaluations)
