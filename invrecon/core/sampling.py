"""From noise to image latents: the plain sampler, unmodified. And plain DDIM inversion, the way back that
everyone knows.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from invrecon.core.denoiser import Denoiser
from invrecon.core.schedule import Schedule
from invrecon.core.transition import transitions

OnStep = Callable[[int, int], None]
"""Called after each step with (steps done, steps in all)."""


@torch.no_grad()
def generate(
    denoiser: Denoiser, schedule: Schedule, latents: Tensor, on_step: OnStep | None = None
) -> Tensor:
    """Image latents z_0 = Phi_{T-1}(... Phi_0(z_T)). In a sampler with a memory each step is given what the
    one before predicted.

    Args:
        latents: the seed noise z_T, (B, C, h, w).

    Returns:
        z_0, same shape and dtype.
    """
    offset: Tensor | float = 0.0
    for done, transition in enumerate(transitions(denoiser, schedule), 1):
        noise = transition.denoiser(latents, transition.timestep)
        following = transition.step(latents, noise) + offset
        offset = schedule.memory.offset(done - 1, latents, noise) if schedule.memory else 0.0
        latents = following
        if on_step:
            on_step(done, len(schedule))
    return latents


@torch.no_grad()
def ddim_inversion(
    denoiser: Denoiser, schedule: Schedule, image_latents: Tensor, on_step: OnStep | None = None
) -> Tensor:
    """Plain DDIM inversion (arXiv:2105.05233):  z_t = (z_s - B eps(z_s, t)) / A, the network asked at the
    wrong latents.

    A sampler with a memory is inverted in its one-step form.

    Returns:
        z_T, same shape and dtype; close to the seed noise as far as eps changes little within a step.
    """
    latents = image_latents
    for done, transition in enumerate(reversed(transitions(denoiser, schedule.one_step())), 1):
        latents = transition.up(latents, denoiser(latents, transition.timestep))
        if on_step:
            on_step(done, len(schedule))
    return latents
