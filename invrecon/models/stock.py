"""Regeneration by diffusers alone: its pipeline, its scheduler, its loop. Shares no sampling code with the rest."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UniPCMultistepScheduler,
)
from PIL.Image import Image
from torch import Tensor

from invrecon.errors import ModelError
from invrecon.models.quiet import quiet

SAMPLERS: dict[str, Any] = {
    "DDIM": DDIMScheduler,
    "PNDM": PNDMScheduler,
    "Euler": EulerDiscreteScheduler,
    "DPM++ 2M": DPMSolverMultistepScheduler,
    "UniPC": UniPCMultistepScheduler,
}


class StockPipeline:
    """A checkpoint in diffusers' own `StableDiffusionPipeline`, loaded anew from its folder.

    Args:
        folder: in the diffusers layout.
        device: a torch device.
        dtype: of all parts.
    """

    def __init__(self, folder: Path, device: torch.device, dtype: str = "float32") -> None:
        with quiet():
            self._pipeline = StableDiffusionPipeline.from_pretrained(
                folder, torch_dtype=getattr(torch, dtype), use_safetensors=True, local_files_only=True, safety_checker=None
            ).to(device)
        self._pipeline.set_progress_bar_config(disable=True)
        self._config = self._pipeline.scheduler.config

    def regenerate(self, seed: Tensor, header: dict[str, Any], *, steps: int | None = None, sampler: str = "DDIM") -> tuple[Image, Tensor]:
        """The picture and the image latents (float32) that the pipeline makes of seed noise, (1, C, h, w).

        Args:
            header: of the seed file: its prompts, steps and guidance.
            steps: in place of the header's.
            sampler: a key of `SAMPLERS`.

        Raises:
            ModelError: this sampler can't be had for this checkpoint.
        """
        pipeline = self._pipeline
        try:
            with quiet():
                pipeline.scheduler = SAMPLERS[sampler].from_config(self._config)
                latents = pipeline(
                    prompt=header["prompt"],
                    negative_prompt=header["negative_prompt"],
                    latents=seed.to(pipeline.device, pipeline.unet.dtype),
                    num_inference_steps=steps or header["num_inference_steps"],
                    guidance_scale=header["guidance_scale"],
                    height=seed.shape[2] * pipeline.vae_scale_factor,
                    width=seed.shape[3] * pipeline.vae_scale_factor,
                    output_type="latent",
                ).images
        except (ValueError, NotImplementedError, RuntimeError) as error:
            raise ModelError(f"{sampler} can't be used with this checkpoint: {error}") from error
        return self.decode(latents)[0], latents.float()

    @torch.no_grad()
    def decode(self, latents: Tensor) -> tuple[Image, Tensor]:
        """The 8-bit picture of image latents, and its pixels (1, 3, H, W) in [0, 1] before they are rounded."""
        vae = self._pipeline.vae
        shift = vae.config.get("shift_factor") or 0.0
        decoded = vae.decode(latents.to(self._pipeline.device, vae.dtype) / vae.config.scaling_factor + shift).sample
        pixels = self._pipeline.image_processor.denormalize(decoded.float())
        return self._pipeline.image_processor.postprocess(decoded.float(), output_type="pil")[0], pixels
