"""Stable Diffusion XL and SDXL-Turbo."""

from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from invrecon.core.denoiser import ConditionalDenoiser
from invrecon.models.families.family import Family, join, split
from invrecon.models.families.stable_diffusion import UNet, embedded


class UNetXL:
    """u(z, t, c), c joined of token embeddings and the pooled one. The network is also told a picture's size,
    which is that of the latents: (height, width) before cropping, the crop's corner (0, 0), (height, width)
    wanted, as is the stock pipeline's default.

    Args:
        width: P of the pooled embedding.
        downsampling: pixels to a latent, along a side.
    """

    def __init__(self, unet: UNet, width: int, downsampling: int) -> None:
        self.unet = unet
        self.width = width
        self.downsampling = downsampling

    def __call__(self, latents: Tensor, timestep: float, condition: Tensor) -> Tensor:
        embeds, pooled = split(condition, self.width)
        sides = [side * self.downsampling for side in latents.shape[-2:]]
        time_ids = torch.tensor([[*sides, 0, 0, *sides]], dtype=pooled.dtype, device=pooled.device).expand(
            len(latents), -1
        )
        return self.unet(
            latents, timestep, embeds, added_cond_kwargs={"text_embeds": pooled, "time_ids": time_ids}
        )


class StableDiffusionXL(Family):
    """A U-Net under two CLIP text encoders, the second of which gives the pooled embedding too."""

    title = "Stable Diffusion XL"
    pipeline = StableDiffusionXLPipeline
    network = "unet"
    encoders = ("text_encoder", "text_encoder_2")

    def conditions(self, pipeline: Any, prompt: str, negative_prompt: str) -> tuple[Tensor, Tensor]:
        embeds, negative, pooled, negative_pooled = pipeline.encode_prompt(
            prompt,
            device=pipeline._execution_device,
            do_classifier_free_guidance=True,
            negative_prompt=negative_prompt,
        )
        return join(embeds, pooled), join(negative, negative_pooled)

    def denoiser(self, pipeline: Any, guidance_scale: float) -> ConditionalDenoiser:
        width = pipeline.text_encoder_2.config.projection_dim
        return UNetXL(
            UNet(pipeline.unet, embedded(pipeline, guidance_scale)), width, pipeline.vae_scale_factor
        )

    def embeds_guidance(self, pipeline: Any) -> bool:
        return pipeline.unet.config.time_cond_proj_dim is not None

    def limits(self, pipeline: Any) -> list[tuple[Any, int]]:
        return [(each, each.model_max_length) for each in (pipeline.tokenizer, pipeline.tokenizer_2)]
