"""Stable Diffusion 3 and 3.5."""

from typing import Any

import torch
from diffusers import StableDiffusion3Pipeline
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import calculate_shift
from torch import Tensor

from invrecon.core.denoiser import ConditionalDenoiser
from invrecon.models.families.family import Family, join, split
from invrecon.settings import Recipe

TOKENS = 256  # that the stock pipeline gives to T5 unless told otherwise


class Transformer:
    """v(z, t, c) of flow matching, c joined of token embeddings and the pooled one."""

    def __init__(self, transformer: torch.nn.Module, width: int) -> None:
        self.transformer = transformer
        self.width = width

    def __call__(self, latents: Tensor, timestep: float, condition: Tensor) -> Tensor:
        dtype = next(self.transformer.parameters()).dtype
        embeds, pooled = split(condition.to(dtype), self.width)
        output = self.transformer(
            hidden_states=latents.to(dtype),
            timestep=torch.full((len(latents),), timestep, device=latents.device),
            encoder_hidden_states=embeds,
            pooled_projections=pooled,
        )
        return output.sample.to(latents.dtype)


class StableDiffusion3(Family):
    """A transformer under two CLIP text encoders and T5; T5 may be missing, and the stock pipeline puts zeros
    in its place.
    """

    title = "Stable Diffusion 3, 3.5"
    pipeline = StableDiffusion3Pipeline
    network = "transformer"
    encoders = ("text_encoder", "text_encoder_2", "text_encoder_3")
    optional = ("text_encoder_3",)

    def conditions(self, pipeline: Any, prompt: str, negative_prompt: str) -> tuple[Tensor, Tensor]:
        embeds, negative, pooled, negative_pooled = pipeline.encode_prompt(
            prompt,
            None,
            None,
            device=pipeline._execution_device,
            do_classifier_free_guidance=True,
            negative_prompt=negative_prompt,
        )
        return join(embeds, pooled), join(negative, negative_pooled)

    def denoiser(self, pipeline: Any, guidance_scale: float) -> ConditionalDenoiser:
        return Transformer(pipeline.transformer, pipeline.transformer.config.pooled_projection_dim)

    def embeds_guidance(self, pipeline: Any) -> bool:
        return False

    def limits(self, pipeline: Any) -> list[tuple[Any, int]]:
        if pipeline.text_encoder_3:
            return [(pipeline.tokenizer_3, TOKENS)]
        return [(pipeline.tokenizer, pipeline.tokenizer.model_max_length)] if pipeline.tokenizer else []

    def multiple(self, pipeline: Any) -> int:
        return int(pipeline.vae_scale_factor * pipeline.transformer.config.patch_size)

    def grid(self, pipeline: Any, recipe: Recipe) -> dict[str, Any]:
        config = pipeline.scheduler.config
        if not config.get("use_dynamic_shifting"):
            return {}
        side = self.multiple(pipeline)
        tokens = (recipe.height // side) * (recipe.width // side)
        names = {"base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.16}
        return {
            "mu": calculate_shift(tokens, *(config.get(name, default) for name, default in names.items()))
        }
