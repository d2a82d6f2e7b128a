"""How loud a seed will be, before it is found."""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from invrecon.core.denoiser import Denoiser
from invrecon.core.schedule import Schedule
from invrecon.core.transition import transitions


def loudness(denoiser: Denoiser, schedule: Schedule, image_latents: Tensor) -> tuple[float, Tensor]:
    """‖z_T‖ / sqrt(d) of where plain DDIM inversion (see `core.sampling`) leads to, and its gradient in the image latents.

    Steps are taken once more on the way back, one by one (gradient checkpointing), so memory is that of a single one.
    Four evaluations a step in all.

    Args:
        schedule: a short one will do; seeds found by Latent Bias Optimization are louder by what it misses.
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
