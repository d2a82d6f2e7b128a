"""What diffusers does alone, by its pipeline, its schedulers, its loop: regeneration, and DDIM inversion.
Shares no sampling code with the rest."""

import copy
from typing import Any

import numpy as np
import torch
from diffusers import (
    DDIMInverseScheduler,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from PIL.Image import Image
from torch import Tensor

from invrecon.errors import ModelError
from invrecon.models.load import place
from invrecon.models.model import Model
from invrecon.models.probing.rescue import networks
from invrecon.models.quiet import quiet
from invrecon.models.samplers import converted
from invrecon.settings import Recipe

SAMPLERS: dict[str, Any] = {
    "DDIM": DDIMScheduler,
    "PNDM": PNDMScheduler,
    "Euler": EulerDiscreteScheduler,
    "DPM++ 2M": DPMSolverMultistepScheduler,
    "UniPC": UniPCMultistepScheduler,
}
OWN = {"ddim": "DDIM", "euler": "Euler", "dpm++": "DPM++ 2M"}  # of the samplers that seeds are found for


class StockPipeline:
    """diffusers' own pipeline, called as its user would: a checkpoint's loaded anew, a live one on a copy
    that shares its parts.

    Args:
        model: says where the checkpoint lies, and how the pipeline is called.
        dtype: of all parts of a checkpoint; an autoencoder that asks for float32 (`force_upcast`) gets it.
    """

    def __init__(self, model: Model, dtype: str = "float32") -> None:
        self._model = model
        if model.checkpoint:
            with quiet():
                self._pipeline = model.checkpoint.open(type(model.pipeline), dtype)
                if self._pipeline.vae.config.get("force_upcast"):
                    self._pipeline.vae.to(torch.float32)
                place(self._pipeline, model.device, model.offload)
        else:
            self._pipeline = copy.copy(model.pipeline)
        if hasattr(self._pipeline, "safety_checker"):
            vars(self._pipeline)["safety_checker"] = None
        vars(self._pipeline)["_progress_bar_config"] = {"disable": True}
        self._own = self._pipeline.scheduler

    def regenerate(self, seed: Tensor, recipe: Recipe, sampler: str | None = None) -> tuple[Image, Tensor]:
        """The picture and the image latents (float32) that the pipeline makes of seed noise, (1, C, h, w).

        Args:
            sampler: a key of `SAMPLERS`, in place of the recipe's.

        Raises:
            ModelError: this sampler can't be had for this model.
        """
        model, pipeline, decoded = self._model, self._pipeline, []
        denoiser = model.denoiser(recipe)
        call = denoiser.call(seed.to(model.device))
        vae = pipeline.vae
        [network, *_] = networks(pipeline)

        def decode(latents: Tensor, *args: Any, **options: Any) -> Any:
            decoded.append(latents)
            return vae.decode(latents, *args, **options)

        watched = copy.copy(vae)
        vars(watched)["decode"] = decode
        try:
            with quiet(), np.errstate(invalid="ignore"):  # what isn't finite is told by who asked
                vars(pipeline).update(scheduler=self._scheduler(sampler, recipe), vae=watched)
                picture = pipeline(**call | {"latents": call["latents"].to(network.dtype)}).images[0]
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{sampler or 'the sampler'} can't be used with this model: {error}") from error
        finally:
            vars(pipeline)["vae"] = vae
        return picture, denoiser.forms.from_decoder(decoded[-1].float())

    def _scheduler(self, sampler: str | None, recipe: Recipe) -> Any:
        if sampler is None:
            return copy.deepcopy(self._model.scheduler(recipe.sampler))
        if not hasattr(self._own, "alphas_cumprod"):
            raise ValueError("flow matching has one sampler")
        return converted(SAMPLERS[sampler], self._own)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> tuple[Image, Tensor]:
        """The 8-bit picture of image latents, and its pixels (1, 3, H, W) in [0, 1] before they are
        rounded.
        """
        vae = self._pipeline.vae
        given = self._model.base.to_decoder(latents.to(self._model.device))
        decoded = vae.decode(given.to(vae.dtype)).sample.float()
        decoded = decoded[:, :3, 0] if decoded.ndim == 5 else decoded[:, :3]
        processor = self._pipeline.image_processor
        return processor.postprocess(decoded, output_type="pil")[0], processor.denormalize(decoded)


@torch.no_grad()
def ddim_inversion(model: Model, recipe: Recipe, image_latents: Tensor) -> Tensor:
    """z_T of image latents (B, C, h, w) by plain DDIM inversion, through diffusers' `DDIMInverseScheduler`.
    Not for flow matching.
    """
    with quiet():
        scheduler = DDIMInverseScheduler.from_config(
            model.scheduler(recipe.sampler).config,
            clip_sample=False,
            timestep_spacing="leading",
            prediction_type=model.form(recipe.sampler),
        )
    scheduler.set_timesteps(recipe.num_inference_steps)
    denoiser, latents = model.denoiser(recipe), image_latents
    for t in scheduler.timesteps:
        latents = scheduler.step(denoiser(latents, t.item()), t, latents).prev_sample
    return latents
