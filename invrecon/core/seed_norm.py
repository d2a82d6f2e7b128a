"""The norm of a seed, estimated before the seed is found."""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from invrecon.core.denoiser import Denoiser
from invrecon.core.schedule import Schedule
from invrecon.core.transition import transitions


def seed_norm(denoiser: Denoiser, schedule: Schedule, image_latents: Tensor) -> tuple[float, Tensor]:
    """‖z_T‖ / sqrt(d) of the noise that plain DDIM inversion leads to (see `core.sampling`), and its gradient
    in the image latents.

    Steps are recomputed in the backward pass, one by one (gradient checkpointing), so memory is that of a
    single one. Four evaluations a step in all.

    Args:
        schedule: a short one is enough; seeds found by Latent Bias Optimization have a larger norm by what it
            misses.
        image_latents: z_0, (1, C, h, w).

    Returns:
        The norm, and its gradient in z_0, of its shape.
    """
    start = image_latents.detach().requires_grad_()
    with torch.enable_grad():
        latents = start
        for transition in reversed(transitions(denoiser, schedule.one_step())):
            noise = checkpoint(transition.denoiser, latents, transition.timestep, use_reentrant=False)
            latents = transition.up(latents, noise)
        norm = latents.square().mean().sqrt()
        [gradient] = torch.autograd.grad(norm, start)
    return norm.item(), gradient
