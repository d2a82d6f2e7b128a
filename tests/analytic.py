"""Denoisers and schedules whose inverses are known in closed form."""

import math
from typing import Protocol

import torch
from torch import Tensor

from invrecon.core.schedule import MultistepMemory, Schedule


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


def dpm_schedule(num_inference_steps: int) -> Schedule:
    """DPM-Solver++ (2M) on the grid of `ddim_schedule`, from algorithm 2 of arXiv:2211.01095.

    z_{k+1} = (s_{k+1} / s_k) z_k + g ((1 + w) x_k - w x_{k-1}) with g = -a_{k+1} (exp(-h) - 1), w = h / (2
    h_before) and x = (z - s e) / a; the first and the last step are of first order, w = 0.
    """
    timesteps = list(ddim_schedule(num_inference_steps).timesteps)
    abar = alphas_cumprod()[[*timesteps, 0]]
    a, s = abar.sqrt().tolist(), (1 - abar).sqrt().tolist()
    P, Q = [1 / value for value in a[:-1]], [-noise / value for value, noise in zip(a, s[:-1], strict=False)]
    h = torch.log(abar / (1 - abar)).diff() / 2
    gains = [-value * math.expm1(-step) for value, step in zip(a[1:], h.tolist(), strict=True)]
    w = [0.0, *(h[1:] / h[:-1] / 2).tolist()]
    w[-1] = 0.0
    return Schedule(
        timesteps,
        A=[s[k + 1] / s[k] + gains[k] * (1 + w[k]) * P[k] for k in range(num_inference_steps)],
        B=[gains[k] * (1 + w[k]) * Q[k] for k in range(num_inference_steps)],
        signal=[value / a[-1] for value in a[1:]],
        memory=MultistepMemory([-gains[k] * w[k] for k in range(num_inference_steps)], P, Q),
    )


class GaussianDenoiser:
    """The exact denoiser of data z_0 ~ N(mean, variance I):  eps(z, t) = s (z - a mean) / (a² variance +
    s²).
    """

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
    """A smooth, coupled, non-linear denoiser: every latent looks at its neighbour; `strength` sets how far
    from affine.
    """

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength
        self.gaussian = GaussianDenoiser()

    def __call__(self, latents: Tensor, timestep: int) -> Tensor:
        return self.gaussian(latents, timestep) + self.strength * 0.3 * torch.sin(
            2 * latents.roll(1, -1) + timestep / 300
        )


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

    @property
    def weight(self) -> float:
        return self.guidance_scale

    def unguided(self) -> "Guided":
        """The same without guidance."""
        return Guided(self.denoiser, self.condition, self.negative, 1.0, self.precision)

    def under(self, embedding: Tensor) -> "Guided":
        """eps(z, t, c) under another condition, (1, L, D) or one for each sample, without guidance."""
        return Guided(self.denoiser, embedding, embedding, 1.0, self.precision)

    def __call__(self, latents: Tensor, timestep: float) -> Tensor:
        batch = len(latents)
        condition = self.condition.expand(batch, -1, -1)
        if self.guidance_scale == 1:
            return self.denoiser(latents, timestep, condition)
        conditions = torch.cat((self.negative.expand(batch, -1, -1), condition))
        negative, positive = self.denoiser(torch.cat((latents, latents)), timestep, conditions).chunk(2)
        return negative + self.guidance_scale * (positive - negative)
