"""How many photos go through the network at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from invrecon.models.memory import fitting, free_memory
from invrecon.settings import Settings

if TYPE_CHECKING:
    from invrecon.models import Model

MOST = 16  # of automatic size: beyond, a card is busy enough


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
