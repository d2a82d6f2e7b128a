"""Any autoencoder of diffusers between pixels and the latents that its decoder takes."""

import copy
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from invrecon.errors import ModelError
from invrecon.models.memory import free_memory, saved_bytes


class Autoencoder:
    """E and D in float32.

    Args:
        vae: as the pipeline has it; one in half precision is copied.
        device: where it works.
    """

    def __init__(self, vae: Any, device: torch.device) -> None:
        self.vae = vae if vae.dtype == torch.float32 else copy.deepcopy(vae).to(device, torch.float32)
        self.device = device

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """E(x), its mean where it is a distribution: (B, 3, H, W) in [-1, 1] -> (B, C, h, w), or (B, C, 1, h,
        w) with a frame axis."""
        return self._encode(pixels.unsqueeze(2) if self.has_frames else pixels)

    def decode(self, latents: Tensor) -> Tensor:
        """D(v): what the pipeline gives to its decoder -> (B, 3, H, W), not yet clamped to [-1, 1].
        Differentiable; what the backward pass keeps is made anew block by block (gradient checkpointing)
        where it would take more than half of the free memory.
        """
        if latents.requires_grad and not self.vae.is_gradient_checkpointing:
            large = self._backward_bytes * latents.numel() > free_memory(self.device) / 2
            if large and self.vae._supports_gradient_checkpointing:
                self.vae.enable_gradient_checkpointing()
        return self._decode(latents.to(self.device, torch.float32)).float().contiguous()

    @cached_property
    def has_frames(self) -> bool:
        """Whether it is one for videos, and takes a picture as one frame."""
        for frames in (False, True):
            try:
                self._encode(_blank(frames))
                return frames
            except (RuntimeError, ValueError, IndexError):
                continue
        raise ModelError(f"{type(self.vae).__name__} can't be used: it doesn't encode a picture of 64 pixels")

    @cached_property
    def downsampling(self) -> int:
        """Pixels to a latent, along a side."""
        return 64 // int(self._encode(_blank(self.has_frames)).shape[-1])

    @cached_property
    def _backward_bytes(self) -> float:
        """Bytes a latent value that the decoder keeps for a backward pass, seen on 64 x 64 pixels."""
        like = self._encode(_blank(self.has_frames))
        return saved_bytes(self._decode, like) / like.numel()

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
