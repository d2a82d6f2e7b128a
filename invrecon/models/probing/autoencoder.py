"""Any autoencoder of diffusers between pixels and the latents that its decoder takes."""

import copy
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from invrecon.errors import ModelError
from invrecon.models.memory import free_memory, saved_bytes
from invrecon.models.parts import telling_line
from invrecon.models.tiling import Tiling


class Autoencoder:
    """E and D in float32.

    Args:
        vae: as the pipeline has it; one in half precision is copied.
        device: where it works.
        may_switch: whether its tiling, where it is on, may be switched off for pictures that fit into the
            memory.
    """

    def __init__(self, vae: Any, device: torch.device, may_switch: bool = False) -> None:
        self.vae = vae if vae.dtype == torch.float32 else copy.deepcopy(vae).to(device, torch.float32)
        self.device = device
        self._tiling, self._may_switch = Tiling(self.vae, device, self._small), may_switch

    def tiled(self, width: int, height: int) -> bool:
        """Whether it works in tiles on pictures of this size, pixels; see `Tiling`."""
        if self._may_switch:
            return self._tiling.used(width, height)
        return bool(getattr(self.vae, "use_tiling", False))  # as its user has set it up

    def bytes_of_pass(self, width: int, height: int) -> float:
        """What decoding a picture of this size and a gradient through it take at their fullest, bytes."""
        return self._tiling.bytes_of_pass(width, height)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """E(x), its mean where it is a distribution: (B, 3, H, W) in [-1, 1] -> (B, C, h, w), or (B, C, 1, h,
        w) with a frame axis."""
        if self._may_switch:
            self._tiling.prepare(pixels.shape[-1], pixels.shape[-2])
        return self._encode(pixels.unsqueeze(2) if self.has_frames else pixels)

    def decode(self, latents: Tensor) -> Tensor:
        """D(v): what the pipeline gives to its decoder -> (B, 3, H, W), not yet clamped to [-1, 1].
        Differentiable; what the backward pass keeps is made anew block by block (gradient checkpointing)
        where it would take more than half of the free memory.
        """
        height, width = (side * self.downsampling for side in latents.shape[-2:])
        if self._may_switch:
            self._tiling.prepare(width, height)
        if latents.requires_grad and not self.vae.is_gradient_checkpointing:
            large = self.backward_bytes * latents.numel() > free_memory(self.device) / 2
            if large and self.vae._supports_gradient_checkpointing:
                self.vae.enable_gradient_checkpointing()
        return self._decode(latents.to(self.device, torch.float32)).float().contiguous()

    @cached_property
    def has_frames(self) -> bool:
        """Whether it is one for videos, and takes a picture as one frame.

        Raises:
            ModelError: it can't encode or decode a picture of 64 x 64 pixels.
        """
        for frames in (False, True):
            try:
                latents = self._encode(_blank(frames))
            except (RuntimeError, ValueError, IndexError):
                continue
            try:
                with torch.no_grad():
                    shape = tuple(self._decode(latents).shape)
                why = f"it decodes a picture of 64 x 64 pixels to {shape}"
            except (RuntimeError, ValueError, IndexError, TypeError) as error:
                shape, why = (), f"its decoder fails on what it encodes ({telling_line(error)})"
            if shape == (1, 3, 64, 64):
                return frames
            raise ModelError(f"{type(self.vae).__name__} can't be used: {why}; its config.json is of another")
        raise ModelError(f"{type(self.vae).__name__} can't be used: it doesn't encode a picture of 64 pixels")

    @cached_property
    def downsampling(self) -> int:
        """Pixels to a latent, along a side."""
        return 64 // int(self._small().shape[-1])

    @cached_property
    def backward_bytes(self) -> float:
        """Bytes a latent value that the decoder keeps for a backward pass, seen on 64 x 64 pixels."""
        like = self._small()
        return saved_bytes(self._decode, like) / like.numel()

    def _small(self) -> Tensor:
        """The latents of 64 x 64 pixels."""
        return self._encode(_blank(self.has_frames))

    @torch.no_grad()
    def _encode(self, pixels: Tensor) -> Tensor:
        pixels = pixels.to(self.device, torch.float32)
        if self.vae.config.get("in_channels") == 4:  # Qwen-Image 2.1: with alpha, all opaque
            pixels = torch.cat((pixels, torch.ones_like(pixels[:, :1])), 1)
        encoded = self.vae.encode(pixels)
        for name in ("latent_dist", "latents", "latent"):
            if hasattr(encoded, name):
                latents = getattr(encoded, name)
                return (latents.mode() if name == "latent_dist" else latents).float().contiguous()
        raise ModelError(f"{type(self.vae).__name__} can't be used: its encoder doesn't return latents")

    def _decode(self, latents: Tensor) -> Tensor:
        pixels = self.vae.decode(latents).sample[:, :3]
        return pixels[:, :, 0] if pixels.ndim == 5 else pixels


def _blank(frames: bool) -> Tensor:
    return torch.zeros((1, 3, 1, 64, 64) if frames else (1, 3, 64, 64))
