"""Whether a checkpoint works here: a picture sent there and back in two steps."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from invrecon.metrics import latent_fidelity
from invrecon.models.checks import check_values
from invrecon.models.precision import rescued_at
from invrecon.pipeline.subject import check_network
from invrecon.settings import Effort, Recipe, Settings

if TYPE_CHECKING:
    from invrecon.models import Model

STEPS, SIDE = 2, 128


@dataclass(frozen=True)
class Checkup:
    """What the two steps showed.

    Args:
        family, pipeline: of the checkpoint; `pipeline` is diffusers' name for it.
        sampler, prediction: how it is sampled, and what the network predicts.
        parameters: of the network.
        latents: (C, h, w) for a picture of 128 x 128 pixels.
        dtype, vae_dtype, device: in what precision and where it ran.
        latent_fidelity_db: of the image latents after two steps up and down.
        converged_steps: of the two.
        rescued: steps that had to be taken in float32.
    """

    family: str
    pipeline: str
    sampler: str
    prediction: str
    parameters: int
    latents: tuple[int, ...]
    dtype: str
    vae_dtype: str
    device: str
    latent_fidelity_db: float
    converged_steps: int
    rescued: int
    seconds: float


@torch.no_grad()
def check(model: Model, settings: Settings) -> Checkup:
    """Two steps up from a gradient of colours, and down again.

    Raises:
        ModelError: the checkpoint's scheduler can't be inverted.
    """
    begun = time.monotonic()
    recipe = Recipe(num_inference_steps=STEPS, width=SIDE, height=SIDE, sampler=settings.sampler)
    sampler = model.sampler(recipe, Effort(max_evaluations=100))
    ramp = torch.linspace(-1, 1, SIDE)
    pixels = torch.stack((ramp.expand(SIDE, -1), ramp.expand(SIDE, -1).T, torch.zeros(SIDE, SIDE)))[None]
    image_latents = model.encode(pixels.to(model.device))
    for values, part in ((image_latents, "encoder"), (model.decode(image_latents), "decoder")):
        check_values(values, f"{model.name}: its vae's {part}", "use another with --vae")
    [inversion] = sampler.invert(image_latents)
    regenerated = sampler.generate(inversion.latents)
    check_network(regenerated, model, recipe)
    return Checkup(
        family=model.title,
        pipeline=type(model.pipeline).__name__,
        sampler=model.sampler_name(settings.sampler),
        prediction=model.prediction(settings.sampler),
        parameters=sum(parameter.numel() for parameter in model.network.parameters()),
        latents=tuple(image_latents.shape[1:]),
        dtype=str(model.dtype).removeprefix("torch."),
        vae_dtype=str(model.pipeline.vae.dtype).removeprefix("torch."),
        device=str(model.device),
        latent_fidelity_db=latent_fidelity(image_latents, regenerated),
        converged_steps=inversion.solved,
        rescued=len(rescued_at(sampler.denoiser)),
        seconds=time.monotonic() - begun,
    )
