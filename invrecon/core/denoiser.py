"""Noise predictions, and wrappers that change or count them."""

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor


class Denoiser(Protocol):
    """eps(z, t): predicts the noise in latents."""

    def __call__(self, latents: Tensor, timestep: float) -> Tensor:
        """(B, C, h, w) latents at `timestep` -> the noise in them, same shape and dtype."""
        ...


class GuidedDenoiser(Denoiser, Protocol):
    """eps(z, t) under classifier-free guidance (arXiv:2207.12598):

    eps(z, t) = eps(z, t, c_neg) + w (eps(z, t, c) - eps(z, t, c_neg))
    """

    @property
    def weight(self) -> float:
        """w; 1 where there is one branch only."""
        ...

    @property
    def rounding(self) -> float:
        """Relative error that rounding may leave in eps(z, t)."""
        ...

    @property
    def negative(self) -> Tensor:
        """c_neg, (1, L, D)."""
        ...

    def unguided(self) -> "GuidedDenoiser":
        """The same under c alone, w = 1."""
        ...

    def under(self, embedding: Tensor) -> Denoiser:
        """eps(z, t, c) under another condition, (1, L, D), alone. Gradients flow to it."""
        ...


@dataclass(frozen=True)
class Scaled:
    """e(c z, t): the network sees the latents times c."""

    denoiser: Denoiser
    scale: float

    def __call__(self, latents: Tensor, timestep: float) -> Tensor:
        return self.denoiser(self.scale * latents, timestep)


@dataclass
class Tally:
    """Calls of a denoiser, and gradients that flowed back through one."""

    forward: int = 0
    backward: int = 0


class Counted:
    """Counts what passes through a denoiser: one `forward` a call (both branches of guidance together), one
    `backward` whenever a gradient flows back through a call. `evaluations` takes a backward pass for two.

    What `unguided` and `under` return is counted with it.

    Args:
        denoiser: eps(z, t); a `GuidedDenoiser` where its guidance is asked for.
        tally: where it is counted.
    """

    def __init__(self, denoiser: Any, tally: Tally | None = None) -> None:
        self.denoiser = denoiser
        self.tally = tally or Tally()

    def __call__(self, latents: Tensor, timestep: float) -> Tensor:
        self.tally.forward += 1
        noise: Tensor = self.denoiser(latents, timestep)
        if noise.requires_grad:
            noise.register_hook(self._count_backward)
        return noise

    def _count_backward(self, gradient: Tensor) -> None:
        self.tally.backward += 1

    @property
    def weight(self) -> float:
        return float(self.denoiser.weight)

    @property
    def rounding(self) -> float:
        return float(self.denoiser.rounding)

    @property
    def negative(self) -> Tensor:
        negative: Tensor = self.denoiser.negative
        return negative

    def unguided(self) -> "Counted":
        return Counted(self.denoiser.unguided(), self.tally)

    def under(self, embedding: Tensor) -> "Counted":
        return Counted(self.denoiser.under(embedding), self.tally)

    @property
    def forward(self) -> int:
        return self.tally.forward

    @property
    def backward(self) -> int:
        return self.tally.backward

    @property
    def evaluations(self) -> int:
        return self.forward + 2 * self.backward
