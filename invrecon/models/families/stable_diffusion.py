"""Stable Diffusion 1.x and 2.x, SD-Turbo, LCM, and `mini`, which has their architecture."""

from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from invrecon.core.denoiser import ConditionalDenoiser
from invrecon.models.families.family import Family


class UNet:
    """u(z, t, c) in the network's own dtype; latents keep theirs.

    Args:
        guidance: embedded, (1, W), for networks that are told it.
    """

    def __init__(self, unet: torch.nn.Module, guidance: Tensor | None) -> None:
        self.unet = unet
        self.guidance = guidance

    def __call__(
        self, latents: Tensor, timestep: float, condition: Tensor, **added: dict[str, Tensor]
    ) -> Tensor:
        dtype = next(
            self.unet.parameters()
        ).dtype  # unet.dtype goes through all modules, and takes half a millisecond
        output = self.unet(
            latents.to(dtype),
            torch.full(
                (len(latents),), timestep, dtype=torch.float32, device=latents.device
            ),  # a number would be compiled in
            encoder_hidden_states=condition.to(dtype),
            timestep_cond=None
            if self.guidance is None
            else self.guidance.to(latents.device, dtype).expand(len(latents), -1),
            **added,
        )
        return output.sample.to(latents.dtype).contiguous()  # the network's own is channels-last


class StableDiffusion(Family):
    """A U-Net under one CLIP text encoder."""

    title = "Stable Diffusion 1.x, 2.x"
    pipeline = StableDiffusionPipeline
    network = "unet"
    encoders = ("text_encoder",)

    def conditions(self, pipeline: Any, prompt: str, negative_prompt: str) -> tuple[Tensor, Tensor]:
        condition, negative = pipeline.encode_prompt(
            prompt, pipeline._execution_device, 1, True, negative_prompt=negative_prompt
        )
        return condition, negative

    def denoiser(self, pipeline: Any, guidance_scale: float) -> ConditionalDenoiser:
        return UNet(pipeline.unet, embedded(pipeline, guidance_scale))

    def embeds_guidance(self, pipeline: Any) -> bool:
        return pipeline.unet.config.time_cond_proj_dim is not None

    def limits(self, pipeline: Any) -> list[tuple[Any, int]]:
        return [(pipeline.tokenizer, pipeline.tokenizer.model_max_length)]


def embedded(pipeline: Any, guidance_scale: float) -> Tensor | None:
    """The guidance scale as an LCM's U-Net takes it (arXiv:2310.04378), (1, W); None for others."""
    width = pipeline.unet.config.time_cond_proj_dim
    return (
        None
        if width is None
        else pipeline.get_guidance_scale_embedding(torch.tensor([guidance_scale - 1]), embedding_dim=width)
    )
