"""One step of the sampler, and the equation that its inverse has to solve."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from invrecon.core.denoiser import Denoiser, Scaled
from invrecon.core.schedule import Schedule


@dataclass(frozen=True)
class Transition:
    """The step from timestep t down to the next level:  Phi(z) = A z + B eps(z, t) + offset.

    Args:
        time: see `Schedule.times`.
        signal: see `Schedule.signal`.
        offset: what a multistep sampler adds for the step before, (B, C, h, w).
    """

    denoiser: Denoiser
    timestep: float
    A: float
    B: float
    time: float = 0.0
    signal: float = 1.0
    offset: Tensor | float = 0.0

    def of(self, rows: Tensor) -> "Transition":
        """The same step for some samples of the batch, (n,)."""
        return replace(self, offset=self.offset[rows]) if isinstance(self.offset, Tensor) else self

    def down(self, latents: Tensor) -> Tensor:
        """Phi(z_t), one network evaluation."""
        return self.step(latents, self.denoiser(latents, self.timestep))

    def step(self, latents: Tensor, noise: Tensor) -> Tensor:
        """Phi(z_t) where `noise` is the prediction at z_t."""
        return self.A * latents + self.B * noise + self.offset

    def up(self, target: Tensor, noise: Tensor) -> Tensor:
        """(z_s - offset - B eps) / A: the latents that step down to `target` if `noise` is predicted at
        them.
        """
        return (target - self.offset - self.B * noise) / self.A

    def implied_noise(self, target: Tensor, latents: Tensor) -> Tensor:
        """(z_s - offset - A z_t) / B: the prediction at `latents` that would step down to `target`; 0 where
        the step doesn't ask.
        """
        if self.B == 0:
            return torch.zeros_like(latents)
        return (target - self.offset - self.A * latents) / self.B


def transitions(
    denoiser: Denoiser, schedule: Schedule, offsets: Sequence[Tensor | float] | None = None
) -> list[Transition]:
    """All steps, from noise to image.

    Args:
        offsets: one for each step, where the sampler has a memory and what it remembers is known.
    """
    steps = zip(
        schedule.timesteps,
        schedule.A,
        schedule.B,
        schedule.times,
        schedule.signal,
        offsets or [0.0] * len(schedule),
        strict=True,
    )
    return [
        Transition(denoiser if scale == 1 else Scaled(denoiser, scale), *step)
        for step, scale in zip(steps, schedule.scales, strict=True)
    ]
