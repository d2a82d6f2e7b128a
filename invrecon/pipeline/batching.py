"""What memory a run takes, and how many photos go through the network at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from invrecon.models.identity import networks_of
from invrecon.models.memory import fitting, free_memory, used_memory
from invrecon.settings import Settings

if TYPE_CHECKING:
    from invrecon.models import Model

MOST = 16  # of automatic size: beyond, a card is busy enough


def memory_line(model: Model, settings: Settings) -> str:
    """What memory a run will take, and what there is, in a sentence: what is in use with the model loaded,
    and a pass through its decoder and back. The network's own activations are small beside it.
    """
    settings = model.settled(settings)
    width, height = settings.exact_size or (int(settings.size),) * 2
    used = used_memory(model.device)
    if model.offload != "none":  # parts come to the device one by one
        used += max(_bytes(part) for part in networks_of(model.pipeline).values())
    taken, there = used + model.base.autoencoder.bytes_of_pass(width, height), free_memory(model.device)
    free = f"{there / 1e9:.1f} GB are free" if math.isfinite(there) else "what is free can't be told"
    return f"memory on {model.device}: about {taken / 1e9:.1f} GB, {used / 1e9:.1f} of them in use; {free}"


def _bytes(part: torch.nn.Module) -> int:
    return sum(weight.nbytes for weight in part.state_dict().values())


def batch_size(model: Model, settings: Settings) -> int:
    """Photos to a batch. "auto" is 1, but on CUDA as many as the network takes in half of the free memory,
    seen on one evaluation.

    Raises:
        UsageError, ModelError: the settings don't fit the model.
    """
    if settings.batch_size != "auto":
        return int(settings.batch_size)
    settings = model.settled(settings)
    width, height = settings.exact_size or (int(settings.size),) * 2
    sampler = model.sampler(settings.recipe(width, height))
    grid = height // model.downsampling, width // model.downsampling
    latents = torch.zeros(1, model.latent_channels, *grid, device=model.device)
    with torch.no_grad():
        return fitting(model.device, lambda: sampler.denoiser(latents, sampler.schedule.timesteps[0]), MOST)


def decoder_batch(model: Model, encoded: Tensor) -> int:
    """How many photos go through the decoder and back at once: as many as half of the free memory takes, at
    least 1. On a CPU 1, since more are no faster there.

    Args:
        encoded: image latents of one, (1, C, h, w).
    """
    if model.device.type == "cpu":
        return 1
    each = model.base.autoencoder.backward_bytes * encoded.numel()
    return max(1, int(free_memory(model.device) / 2 // each))
