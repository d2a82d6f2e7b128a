"""An autoencoder by itself: the latent space of a model, without its network."""

from functools import cached_property
from math import lcm
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invrecon.errors import ModelError
from invrecon.models.checkpoint import Checkpoint
from invrecon.models.checks import check_autoencoder
from invrecon.models.load import named, pick_device
from invrecon.models.locate import autoencoder_at
from invrecon.models.parts import told
from invrecon.models.probing.autoencoder import Autoencoder
from invrecon.models.quiet import quiet


class LatentSpace:
    """Pixels to image latents and back, as a sampler has them:

        z_0 = scaling_factor (E(x) - shift_factor)

    or with `latents_mean` in the place of the shift, and divided by `latents_std`, where the autoencoder's
    configuration has those.

    Args:
        name: as the user knows it.
        vae: of diffusers, frozen.
        fingerprint: SHA-256 over its weight files.

    Raises:
        ModelError: its latents are of no kind that this holds for.
    """

    dtype = torch.float32

    def __init__(self, name: str, vae: Any, device: torch.device, fingerprint: str) -> None:
        self.name, self.device, self.fingerprint = name, device, fingerprint
        self._autoencoder = Autoencoder(vae, device)
        if self._autoencoder.has_frames:
            raise ModelError(f"{name}: it is an autoencoder for videos: name one for pictures")
        config = vae.config
        scale, shift = config.get("scaling_factor", 1.0), config.get("shift_factor") or 0.0
        self._shift = _channels(config.get("latents_mean"), shift, device)
        self._scale = float(scale) / _channels(config.get("latents_std"), 1.0, device)

    @cached_property
    def multiple(self) -> int:
        """What the sides of a picture must be multiples of, pixels."""
        return lcm(8, self._autoencoder.downsampling)

    def encode(self, pixels: Tensor) -> Tensor:
        """z_0, the mean of E(x): (B, 3, H, W) in [-1, 1] -> (B, C, h, w), float32."""
        return (self._autoencoder.encode(pixels) - self._shift) * self._scale

    def decode(self, image_latents: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Pixels of image latents: (B, C, h, w) -> (B, 3, H, W), float32, not yet clamped; differentiable.

        Args:
            dtype: half precision to compute in (torch.autocast); None for float32.
        """
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            return self._autoencoder.decode(image_latents / self._scale + self._shift)


def load_autoencoder(folder: Path, device: str = "auto") -> LatentSpace:
    """Loads an autoencoder: a folder with its config.json and safetensors, or a checkpoint's folder, whose
    `vae` it is then.

    Raises:
        ModelError: it isn't there, is damaged, or is no autoencoder for pictures.
    """
    found, target = autoencoder_at(folder), pick_device(device)
    if found.is_file():
        raise ModelError(f"{folder}: is a single file: name a folder with the autoencoder's config.json")
    checkpoint = Checkpoint(folder.name or str(folder), found, vae=found)
    with told(checkpoint.name), quiet():
        vae = checkpoint.open_autoencoder()
    with named(checkpoint):
        check_autoencoder(vae)
    vae.requires_grad_(False).eval().to(target, memory_format=torch.channels_last)
    return LatentSpace(checkpoint.name, vae, target, checkpoint.fingerprint(("vae",)))


def _channels(values: Any, default: float, device: torch.device) -> Tensor:
    return torch.tensor(values or [default], dtype=torch.float32, device=device).view(1, -1, 1, 1)
