"""Flux."""

from typing import Any

import numpy as np
import torch
from diffusers import FluxPipeline
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from torch import Tensor

from invrecon.core.denoiser import ConditionalDenoiser
from invrecon.models.families.family import Family, join, split
from invrecon.settings import Recipe

TOKENS = 512  # that the stock pipeline gives to T5 unless told otherwise


class Transformer:
    """v(z, t, c) of flow matching for latents as they are, (B, C, h, w); the transformer sees patches of 2 x
    2, (B, h w / 4, 4 C).

    Args:
        width: P of the pooled embedding, which c has at its end.
        guidance: the guidance scale, for networks that are told it.
    """

    def __init__(self, transformer: torch.nn.Module, width: int, guidance: float | None) -> None:
        self.transformer = transformer
        self.width = width
        self.guidance = guidance

    def __call__(self, latents: Tensor, timestep: float, condition: Tensor) -> Tensor:
        dtype = next(self.transformer.parameters()).dtype
        batch, _, height, width = latents.shape
        embeds, pooled = split(condition.to(dtype), self.width)

        def each(value: float, kind: Any) -> Tensor:
            return torch.full((batch,), value, dtype=kind, device=latents.device)

        output = self.transformer(
            hidden_states=pack(latents.to(dtype)),
            timestep=each(timestep, dtype) / 1000,
            guidance=None if self.guidance is None else each(self.guidance, torch.float32),
            pooled_projections=pooled,
            encoder_hidden_states=embeds,
            txt_ids=torch.zeros(embeds.shape[1], 3, dtype=dtype, device=latents.device),
            img_ids=FluxPipeline._prepare_latent_image_ids(
                batch, height // 2, width // 2, latents.device, dtype
            ),
        )
        return unpack(output.sample, height, width).to(latents.dtype)


class Flux(Family):
    """A transformer under a CLIP text encoder, for its pooled embedding alone, and T5; either may be missing,
    and is zeros then.

    Guidance is told to the network (dev) or distilled away (schnell): there is no negative branch.
    """

    title = "Flux"
    pipeline = FluxPipeline
    network = "transformer"
    encoders = ("text_encoder", "text_encoder_2")
    optional = encoders

    def conditions(self, pipeline: Any, prompt: str, negative_prompt: str) -> tuple[Tensor, Tensor]:
        embeds, pooled = _encode(pipeline, prompt)
        condition = join(embeds, pooled)
        return condition, condition

    def denoiser(self, pipeline: Any, guidance_scale: float) -> ConditionalDenoiser:
        config = pipeline.transformer.config
        return Transformer(
            pipeline.transformer,
            config.pooled_projection_dim,
            guidance_scale if config.guidance_embeds else None,
        )

    def embeds_guidance(self, pipeline: Any) -> bool:
        return True

    def limits(self, pipeline: Any) -> list[tuple[Any, int]]:
        if pipeline.text_encoder_2:
            return [(pipeline.tokenizer_2, TOKENS)]
        return [(pipeline.tokenizer, pipeline.tokenizer.model_max_length)] if pipeline.tokenizer else []

    def multiple(self, pipeline: Any) -> int:
        return int(pipeline.vae_scale_factor * 2)

    def grid(self, pipeline: Any, recipe: Recipe) -> dict[str, Any]:
        config = pipeline.scheduler.config
        names = {"base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.15}
        mu = calculate_shift(
            (recipe.height // self.multiple(pipeline)) * (recipe.width // self.multiple(pipeline)),
            *(config.get(name, default) for name, default in names.items()),
        )
        steps = recipe.num_inference_steps
        return {"sigmas": np.linspace(1.0, 1 / steps, steps), "mu": mu}

    def prompts(self, pipeline: Any, prompt: str, negative_prompt: str) -> dict[str, Any]:
        if pipeline.text_encoder and pipeline.text_encoder_2:
            return {"prompt": prompt}
        return dict(zip(("prompt_embeds", "pooled_prompt_embeds"), _encode(pipeline, prompt), strict=True))

    def pack(self, latents: Tensor) -> Tensor:
        return pack(latents)

    def unpack(self, latents: Tensor, height: int, width: int) -> Tensor:
        return unpack(latents, height, width)


def _encode(pipeline: Any, prompt: str) -> tuple[Tensor, Tensor]:
    """(1, L, D) of T5 and (1, P) of CLIP; zeros from an encoder that isn't there, for which the stock
    pipeline makes no provision.
    """
    config, like = (
        pipeline.transformer.config,
        {"dtype": pipeline.transformer.dtype, "device": pipeline._execution_device},
    )
    embeds = torch.zeros(1, TOKENS, config.joint_attention_dim, **like)
    pooled = torch.zeros(1, config.pooled_projection_dim, **like)
    if pipeline.text_encoder_2:
        embeds = pipeline._get_t5_prompt_embeds(prompt, **like)
    if pipeline.text_encoder:
        pooled = pipeline._get_clip_prompt_embeds(prompt, device=pipeline._execution_device)
    return embeds, pooled


def pack(latents: Tensor) -> Tensor:
    """Patches of 2 x 2: (B, C, h, w) -> (B, h w / 4, 4 C), h and w even."""
    batch, channels, height, width = latents.shape
    patches = latents.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(batch, height * width // 4, 4 * channels)


def unpack(latents: Tensor, height: int, width: int) -> Tensor:
    """Undoes `pack`: (B, h w / 4, 4 C) -> (B, C, h, w)."""
    patches = latents.view(len(latents), height // 2, width // 2, -1, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return patches.reshape(len(latents), -1, height, width)
