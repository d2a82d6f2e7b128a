"""What boosting minimises for a photo, as the settings say it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from typing_extensions import TypedDict

from invrecon.core.denoiser import Counted, Denoiser
from invrecon.core.ilb import BoostBudget
from invrecon.core.objective import PROXIMAL_WEIGHT, Decode, Loss, Objective, squared_error
from invrecon.core.schedule import Schedule
from invrecon.core.seed_norm import seed_norm
from invrecon.core.transition import transitions
from invrecon.metrics import dissimilarity
from invrecon.models.precision import decoder_dtype
from invrecon.models.probing.epsilon import noise_in
from invrecon.pipeline.run import Run
from invrecon.pipeline.subject import Subject

if TYPE_CHECKING:
    from invrecon.models import Model
    from invrecon.settings import Settings

# Of the seed that a ten-step DDIM inversion leads to; that of Latent Bias Optimization has a norm of 1.2 then
NORM_LIMIT = 0.95
NORM_STEPS = 10


class HalvedDecoder(Protocol):
    """A decoder that can compute in half precision."""

    device: torch.device

    def decode(self, image_latents: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """(B, C, h, w) image latents -> (B, 3, H, W) pixels."""


def boosting_objective(run: Run, subject: Subject) -> tuple[Objective, Counted]:
    """The objective of a photo, and a counter of the network evaluations that its seed norm takes."""
    model, settings = run.model, run.settings
    recipe = replace(run.recipe, negative_prompt="", guidance_scale=model.no_guidance)
    denoiser = model.denoiser(recipe)
    counted = Counted(denoiser)
    limited = isinstance(settings.proximal_weight, str)
    coarse = model.schedule(replace(recipe, num_inference_steps=NORM_STEPS))

    def norm(latents: Tensor) -> tuple[float, Tensor]:
        value, gradient = seed_norm(counted, coarse, latents)
        return value / NORM_LIMIT, gradient / NORM_LIMIT

    objective = Objective(
        **decoders(model, settings),
        encoded=subject.encoded,
        photo=subject.cut(subject.pixels),
        score=partial(subject.score, model, recipe=run.recipe),
        weight=PROXIMAL_WEIGHT if limited else float(settings.proximal_weight),
        noise=_noise(model, denoiser, run.sampler.schedule),
        seed_norm=norm if limited else None,
        loss=_loss(settings.perceptual_weight),
        seen=subject.cut,
    )
    return objective, counted


class Decoders(TypedDict):
    """What an objective decodes with."""

    decode: Decode
    coarse: Decode | None


def decoders(model: HalvedDecoder, settings: Settings) -> Decoders:
    """The decoder of boosting's passes, and the quicker one in half precision for the first of them."""
    dtype = decoder_dtype(settings.decoder_dtype, model.device)
    halved = partial(model.decode, dtype=dtype)
    if dtype is None or settings.decoder_dtype != "auto":
        return {"decode": halved, "coarse": None}
    return {"decode": model.decode, "coarse": halved}


def boost_budget(settings: Settings) -> BoostBudget:
    """When boosting stops."""
    return BoostBudget(
        rounds=settings.boost_rounds,
        decoder_steps=settings.decoder_steps,
        plain_first=settings.ablation,
        target_psnr=settings.target_psnr,
        seconds=settings.max_seconds,
    )


def _noise(model: Model, denoiser: Denoiser, schedule: Schedule) -> Callable[[Tensor], Tensor]:
    """What the network takes for noise in image latents, asked at the last step but one, where a picture has
    a little noise.
    """
    low = transitions(denoiser, schedule)[-2:][0]

    def noise(latents: Tensor) -> Tensor:
        return noise_in(model.pipeline.scheduler, latents, low.denoiser(latents, low.timestep), low.timestep)

    return noise


def _loss(perceptual_weight: float) -> Loss:
    def loss(pixels: Tensor, photo: Tensor) -> Tensor:
        return squared_error(pixels, photo) + perceptual_weight * dissimilarity(pixels, photo)

    return loss if perceptual_weight else squared_error
