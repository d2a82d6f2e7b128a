"""One step of the sampler, and the equation that its inverse has to solve."""

from dataclasses import dataclass

from torch import Tensor

from invrecon.core.denoiser import Denoiser
from invrecon.core.schedule import Schedule


@dataclass(frozen=True)
class Transition:
    """The step from timestep t down to the next level:  Phi(z) = A z + B eps(z, t)."""

    denoiser: Denoiser
    timestep: int
    A: float
    B: float

    def down(self, latents: Tensor) -> Tensor:
        """Phi(z_t), one network evaluation."""
        return self.A * latents + self.B * self.denoiser(latents, self.timestep)

    def up(self, target: Tensor, noise: Tensor) -> Tensor:
        """(z_s - B eps) / A: the latents that step down to `target` if `noise` is predicted at them."""
        return (target - self.B * noise) / self.A

    def implied_noise(self, target: Tensor, latents: Tensor) -> Tensor:
        """(z_s - A z_t) / B: the prediction at `latents` that would step down to `target`."""
        return (target - self.A * latents) / self.B


def transitions(denoiser: Denoiser, schedule: Schedule) -> list[Transition]:
    """All steps, from noise to image."""
    return [Transition(denoiser, *step) for step in zip(schedule.timesteps, schedule.A, schedule.B, strict=True)]
