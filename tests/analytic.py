"""Denoisers and schedules whose inverses are known in closed form."""

import torch
from torch import Tensor

from invrecon.core.schedule import Schedule


def alphas_cumprod(steps: int = 1000) -> Tensor:
    """Stable Diffusion's abar, float64."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, steps, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0)


def ddim_schedule(num_inference_steps: int) -> Schedule:
    """DDIM with leading spacing and offset 1, in float64, from the formula."""
    abar = alphas_cumprod()
    stride = 1000 // num_inference_steps
    timesteps = [stride * k + 1 for k in reversed(range(num_inference_steps))]
    start = abar[timesteps]
    end = abar[[max(t - stride, 0) for t in timesteps]]
    A = (end / start).sqrt()
    B = (1 - end).sqrt() - A * (1 - start).sqrt()
    return Schedule(timesteps, A.tolist(), B.tolist())


class GaussianDenoiser:
    """The exact denoiser of data z_0 ~ N(mean, variance I):  eps(z, t) = s (z - a mean) / (a² variance + s²)."""

    def __init__(self, mean: float = 0.3, variance: float = 0.5) -> None:
        self.mean, self.variance = mean, variance
        self.abar = alphas_cumprod()

    def affine(self, timestep: int) -> tuple[float, float]:
        """(k, c) with eps = k z + c."""
        abar = self.abar[timestep].item()
        a, s = abar**0.5, (1 - abar) ** 0.5
        k = s / (abar * self.variance + 1 - abar)
        return k, -k * a * self.mean

    def __call__(self, latents: Tensor, timestep: int) -> Tensor:
        k, c = self.affine(timestep)
        return k * latents + c

    def exact_seed(self, schedule: Schedule, image_latents: Tensor) -> Tensor:
        """z_T with generate(z_T) = z_0: every step is affine, z_s = (A + B k) z_t + B c."""
        latents = image_latents
        for t, A, B in reversed(list(zip(schedule.timesteps, schedule.A, schedule.B, strict=True))):
            k, c = self.affine(t)
            latents = (latents - B * c) / (A + B * k)
        return latents


class CurvedDenoiser:
    """A smooth, coupled, non-linear denoiser: every latent looks at its neighbour; `strength` sets how far from affine."""

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength
        self.gaussian = GaussianDenoiser()

    def __call__(self, latents: Tensor, timestep: int) -> Tensor:
        return self.gaussian(latents, timestep) + self.strength * 0.3 * torch.sin(
            2 * latents.roll(1, -1) + timestep / 300
        )
