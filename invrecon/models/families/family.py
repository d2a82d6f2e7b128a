"""The interface that every family has, and what several share."""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from invrecon.core.denoiser import ConditionalDenoiser
from invrecon.settings import Recipe


class Family(ABC):
    """An adapter between a stock pipeline and the core, which sees plain latents (B, C, h, w) and one
    condition (1, L, D).

    Attributes:
        title: for people.
        pipeline: the stock pipeline class.
        network: the part that denoises.
        encoders: text encoders.
        optional: those that a checkpoint may come without; they are None in its pipeline.
    """

    title: str
    pipeline: Any
    network: str
    encoders: tuple[str, ...]
    optional: tuple[str, ...] = ()

    @abstractmethod
    def conditions(self, pipeline: Any, prompt: str, negative_prompt: str) -> tuple[Tensor, Tensor]:
        """(1, L, D) each: of the prompt and of the negative prompt."""

    @abstractmethod
    def denoiser(self, pipeline: Any, guidance_scale: float) -> ConditionalDenoiser:
        """What the network returns, as the scheduler's `step` takes it.

        Args:
            guidance_scale: for networks that are told it.
        """

    @abstractmethod
    def embeds_guidance(self, pipeline: Any) -> bool:
        """Whether guidance is no matter of two branches: the network is told its scale, or was distilled to
        do without.
        """

    @abstractmethod
    def limits(self, pipeline: Any) -> list[tuple[Any, int]]:
        """(tokenizer, how many tokens it may give, special ones included) of each text encoder that gets the
        whole prompt.
        """

    def multiple(self, pipeline: Any) -> int:
        """What the sides of a picture must be multiples of, pixels."""
        return int(pipeline.vae_scale_factor)

    def grid(self, pipeline: Any, recipe: Recipe) -> dict[str, Any]:
        """What the stock pipeline gives to `set_timesteps` for a recipe, besides the number of steps."""
        return {}

    def prompts(self, pipeline: Any, prompt: str, negative_prompt: str) -> dict[str, Any]:
        """The stock pipeline's arguments for prompts."""
        return {"prompt": prompt, "negative_prompt": negative_prompt}

    def pack(self, latents: Tensor) -> Tensor:
        """(B, C, h, w) -> the stock pipeline's `latents=`."""
        return latents

    def unpack(self, latents: Tensor, height: int, width: int) -> Tensor:
        """The stock pipeline's latents -> (B, C, height, width)."""
        return latents


def join(embeds: Tensor, pooled: Tensor) -> Tensor:
    """One condition (1, L + n, D) of token embeddings (1, L, D) and a pooled one (1, P), which fills n =
    ceil(P / D) rows at the end.
    """
    rows = math.ceil(pooled.shape[1] / embeds.shape[2])
    padded = torch.nn.functional.pad(pooled, (0, rows * embeds.shape[2] - pooled.shape[1]))
    return torch.cat((embeds, padded.view(1, rows, -1).to(embeds)), 1)


def split(condition: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Undoes `join` for a batch: (B, L + n, D) -> (B, L, D), (B, P), with P = width."""
    rows = math.ceil(width / condition.shape[2])
    return condition[:, :-rows], condition[:, -rows:].flatten(1)[:, :width]
