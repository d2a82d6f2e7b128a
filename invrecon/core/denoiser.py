"""Noise predictions, and wrappers that change or count them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Denoiser(Protocol):
    """eps(z, t): predicts the noise in latents."""

    def __call__(self, latents: Tensor, timestep: float) -> Tensor:
        """(B, C, h, w) latents at `timestep` -> the noise in them, same shape and dtype."""
        ...


class ConditionalDenoiser(Protocol):
    """eps(z, t, c): predicts the noise under a condition."""

    def __call__(self, latents: Tensor, timestep: float, condition: Tensor) -> Tensor:
        """(B, C, h, w) latents, (B, L, D) conditions -> (B, C, h, w) noise."""
        ...


class Guided:
    """Classifier-free guidance (arXiv:2207.12598):

        eps(z, t) = eps(z, t, c_neg) + w (eps(z, t, c) - eps(z, t, c_neg))

    Both branches go through the network in one call; w = 1 means no guidance and asks for one branch only.

    Args:
        denoiser: eps(z, t, c).
        condition: c, (1, L, D).
        negative: c_neg, (1, L, D).
        guidance_scale: w >= 0.
        precision: relative error that rounding leaves in a branch, torch.finfo(dtype).eps of what the network
            computes in.
    """

    def __init__(
        self,
        denoiser: ConditionalDenoiser,
        condition: Tensor,
        negative: Tensor,
        guidance_scale: float = 1.0,
        precision: float = 0.0,
    ) -> None:
        self.denoiser = denoiser
        self.condition = condition
        self.negative = negative
        self.guidance_scale = guidance_scale
        self.precision = precision

    @property
    def rounding(self) -> float:
        """Relative error that rounding may leave in eps(z, t): that of both branches, w and w - 1 times."""
        return self.precision * math.hypot(self.guidance_scale, self.guidance_scale - 1)

    def at(self, guidance_scale: float) -> "Guided":
        """The same under another guidance."""
        return Guided(self.denoiser, self.condition, self.negative, guidance_scale, self.precision)

    def __call__(self, latents: Tensor, timestep: float) -> Tensor:
        batch = len(latents)
        condition = self.condition.expand(batch, -1, -1)
        if self.guidance_scale == 1:
            return self.denoiser(latents, timestep, condition)
        conditions = torch.cat((self.negative.expand(batch, -1, -1), condition))
        negative, positive = self.denoiser(torch.cat((latents, latents)), timestep, conditions).chunk(2)
        return negative + self.guidance_scale * (positive - negative)


@dataclass(frozen=True)
class Scaled:
    """e(c z, t): the network sees the latents times c."""

    denoiser: Denoiser
    scale: float

    def __call__(self, latents: Tensor, timestep: float) -> Tensor:
        return self.denoiser(self.scale * latents, timestep)


class Counted:
    """Counts what passes through a denoiser, conditional or not: one `forward` a call (both branches of
    guidance together), one `backward` whenever a gradient flows back through a call. `evaluations` takes a
    backward pass for two."""

    def __init__(self, denoiser: Denoiser | ConditionalDenoiser) -> None:
        self.denoiser: Callable[..., Tensor] = denoiser
        self.forward = 0
        self.backward = 0

    def __call__(self, latents: Tensor, timestep: float, condition: Tensor | None = None) -> Tensor:
        self.forward += 1
        noise = (
            self.denoiser(latents, timestep)
            if condition is None
            else self.denoiser(latents, timestep, condition)
        )
        if noise.requires_grad:
            noise.register_hook(self._count_backward)
        return noise

    def _count_backward(self, gradient: Tensor) -> None:
        self.backward += 1

    @property
    def evaluations(self) -> int:
        return self.forward + 2 * self.backward
