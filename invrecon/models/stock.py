"""What diffusers does alone, by its pipeline, its schedulers, its loop: regeneration, and DDIM inversion.
Shares no sampling code with the rest."""

import copy
from typing import Any

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

from invrecon.core.denoiser import Guided
from invrecon.errors import ModelError, UsageError
from invrecon.models.adapted import AdaptedModel
from invrecon.models.load import place
from invrecon.models.model import Model
from invrecon.models.probed import ProbedModel
from invrecon.models.quiet import quiet
from invrecon.models.samplers import make_scheduler
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
    """A checkpoint in diffusers' own pipeline, loaded anew.

    Args:
        model: says where the checkpoint lies and of what family it is.
        dtype: of all parts; an autoencoder that asks for float32 (`force_upcast`) gets it.
    """

    def __init__(self, model: AdaptedModel, dtype: str = "float32") -> None:
        self._family = model.family
        with quiet():
            self._pipeline = model.checkpoint.open(model.family.pipeline, dtype)
            if self._pipeline.vae.config.get("force_upcast"):
                self._pipeline.vae.to(torch.float32)
            place(self._pipeline, model.device, model.offload)
        self._pipeline.set_progress_bar_config(disable=True)
        self._own = self._pipeline.scheduler

    def regenerate(self, seed: Tensor, recipe: Recipe, sampler: str | None = None) -> tuple[Image, Tensor]:
        """The picture and the image latents (float32) that the pipeline makes of seed noise, (1, C, h, w).

        Args:
            sampler: a key of `SAMPLERS`, in place of the recipe's.

        Raises:
            ModelError: this sampler can't be had for this checkpoint.
        """
        pipeline, (height, width) = self._pipeline, seed.shape[2:]
        try:
            with quiet():
                pipeline.scheduler = self._scheduler(sampler, recipe)
                latents = pipeline(
                    **self._family.prompts(pipeline, recipe.prompt, recipe.negative_prompt),
                    latents=self._family.pack(
                        seed.to(pipeline._execution_device, getattr(pipeline, self._family.network).dtype)
                    ),
                    num_inference_steps=recipe.num_inference_steps,
                    guidance_scale=recipe.guidance_scale,
                    height=height * pipeline.vae_scale_factor,
                    width=width * pipeline.vae_scale_factor,
                    output_type="latent",
                ).images
        except (ValueError, RuntimeError) as error:
            raise ModelError(
                f"{sampler or 'the sampler'} can't be used with this checkpoint: {error}"
            ) from error
        latents = self._family.unpack(latents, height, width)
        return self.decode(latents)[0], latents.float()

    def _scheduler(self, sampler: str | None, recipe: Recipe) -> Any:
        if sampler is None:
            return make_scheduler(recipe.sampler, self._own)
        if not hasattr(self._own, "alphas_cumprod"):
            raise ValueError("flow matching has one sampler")
        return SAMPLERS[sampler].from_config(self._own.config)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> tuple[Image, Tensor]:
        """The 8-bit picture of image latents, and its pixels (1, 3, H, W) in [0, 1] before they are
        rounded.
        """
        vae, config = self._pipeline.vae, self._pipeline.vae.config
        if config.get("latents_mean") is not None and config.get("latents_std") is not None:
            mean, deviation = (
                torch.tensor(config[name]).view(1, -1, 1, 1).to(latents)
                for name in ("latents_mean", "latents_std")
            )
            latents = latents * deviation / config.scaling_factor + mean
        else:
            latents = latents / config.scaling_factor + (config.get("shift_factor") or 0.0)
        decoded = vae.decode(latents.to(self._pipeline._execution_device, vae.dtype)).sample
        pixels = self._pipeline.image_processor.denormalize(decoded.float())
        return self._pipeline.image_processor.postprocess(decoded.float(), output_type="pil")[0], pixels


class StockCall:
    """The stock call of a pipeline that is probed: `pipe(**model.call(seed))`, on a copy that shares its
    parts."""

    def __init__(self, model: ProbedModel) -> None:
        self._model = model

    def regenerate(self, seed: Tensor, recipe: Recipe) -> tuple[Image, Tensor]:
        """The picture and the image latents (float32) that the pipeline makes of seed noise, (1, C, h, w)."""
        model, decoded = self._model, []
        pipeline, vae = copy.copy(model.pipeline), copy.copy(model.pipeline.vae)

        def decode(latents: Tensor, *args: Any, **options: Any) -> Any:
            decoded.append(latents)
            return model.pipeline.vae.decode(latents, *args, **options)

        vars(vae)["decode"] = decode
        own = {
            "vae": vae,
            "scheduler": copy.deepcopy(model.scheduler(recipe.sampler)),
            "safety_checker": None,
        }
        vars(pipeline).update({name: part for name, part in own.items() if hasattr(pipeline, name)})
        vars(pipeline)["_progress_bar_config"] = {"disable": True}
        denoiser = model.denoiser(recipe)
        with quiet():
            picture = pipeline(**denoiser.call(seed.to(model.device))).images[0]
        return picture, denoiser.forms.from_decoder(decoded[-1].float())

    @torch.no_grad()
    def decode(self, latents: Tensor) -> tuple[Image, Tensor]:
        """As `StockPipeline.decode`."""
        pixels = self._model.decode(latents) / 2 + 0.5
        return self._model.pipeline.image_processor.postprocess(2 * pixels - 1, output_type="pil")[0], pixels


def stock(model: Model, dtype: str = "float32") -> StockPipeline | StockCall:
    """What diffusers does alone with a live pipeline, or with a checkpoint, loaded anew in `dtype`."""
    if isinstance(model, ProbedModel):
        return StockCall(model)
    if isinstance(model, AdaptedModel):
        return StockPipeline(model, dtype)
    raise TypeError(type(model).__name__)


@torch.no_grad()
def ddim_inversion(model: Model, recipe: Recipe, image_latents: Tensor) -> Tensor:
    """z_T of image latents (B, C, h, w) by plain DDIM inversion, through diffusers' `DDIMInverseScheduler`.
    Not for flow matching.
    """
    if not isinstance(model, AdaptedModel):
        raise UsageError(
            f"DDIM's inverse scheduler is not for {model.title}: name a model of Stable Diffusion"
        )
    with quiet():
        scheduler = DDIMInverseScheduler.from_config(
            model.scheduler(recipe.sampler).config, clip_sample=False, timestep_spacing="leading"
        )
    scheduler.set_timesteps(recipe.num_inference_steps)
    network = Guided(
        model.family.denoiser(model.pipeline, recipe.guidance_scale),
        *model.conditions(recipe.prompt, recipe.negative_prompt),
        1.0 if model.family.embeds_guidance(model.pipeline) else recipe.guidance_scale,
    )
    latents = image_latents
    for t in scheduler.timesteps:
        latents = scheduler.step(network(latents, t.item()), t, latents).prev_sample
    return latents
