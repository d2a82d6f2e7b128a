"""Any text-to-image pipeline of diffusers as a model, by calls of the pipeline itself."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from math import lcm
from typing import Any, Protocol

import torch
from torch import Tensor

from invrecon.core.editing.words import Words
from invrecon.core.schedule import Schedule
from invrecon.errors import InputError, ModelError, UsageError
from invrecon.models.arguments import noted
from invrecon.models.attention import WatchedAttention, watched
from invrecon.models.checkpoint import Checkpoint
from invrecon.models.identity import (
    describe_pipeline,
    hash_of,
    networks_of,
    weights_of,
)
from invrecon.models.mismatch import mismatch
from invrecon.models.model import Model
from invrecon.models.probing import PipelineDenoiser, PipelineModel
from invrecon.models.probing.conventions import completed, conventions, parameters, translated
from invrecon.models.probing.epsilon import in_epsilon
from invrecon.models.probing.prompts import check_prompts
from invrecon.models.probing.rescue import networks
from invrecon.models.samplers import KINDS, make_scheduler
from invrecon.models.tiling import Tiling
from invrecon.models.words import spell
from invrecon.settings import Recipe, Settings

GRIDS = ("sigmas", "timesteps")
"""Arguments that hold one number for each step."""


class Sown(Protocol):
    """What `ProbedModel.call` needs of a `Seed`."""

    latents: Tensor
    header: dict[str, Any]

    @property
    def recipe(self) -> Recipe: ...


class ProbedModel(Model):
    """A pipeline with the arguments of its user's call.

    Args:
        pipeline: as its user loaded it; it is never changed.
        call: the user's arguments, but for `latents` and `output_type`.
        checkpoint: where it was loaded from; None for a live one.
        offload, compiled: what was done to it then.
    """

    def __init__(
        self,
        pipeline: Any,
        call: Mapping[str, Any],
        checkpoint: Checkpoint | None = None,
        offload: str = "none",
        compiled: bool = False,
    ) -> None:
        self.offload, self.compiled = offload, compiled
        self.pipeline, self.checkpoint = pipeline, checkpoint
        self.given = {name: value for name, value in call.items() if value is not None}
        prompt = {} if any(name.startswith("prompt") for name in self.given) else {"prompt": ""}
        self._probed = PipelineModel(pipeline, prompt | self.given)
        if not networks(pipeline):
            raise ModelError(
                f"{type(pipeline).__name__} can't be inverted: it has no transformer and no unet"
            )
        self.network = networks(pipeline)[0]
        self.title = type(pipeline).__name__
        self.name = checkpoint.name if checkpoint else str(pipeline.config.get("_name_or_path") or self.title)
        self.device, self.dtype = self._probed.device, self.network.dtype
        self._tiling = Tiling(self._probed.autoencoder.vae, self.device, self.downsampling)
        self._made: dict[tuple[Recipe, Any], tuple[PipelineDenoiser, Schedule]] = {}

    @classmethod
    def checked(cls, pipeline: Any, call: Mapping[str, Any]) -> "ProbedModel":
        """One that a few calls of the pipeline have shown to be invertible. Raises as
        `Model.from_pipeline`."""
        model = cls(pipeline, call)
        model._told  # noqa: B018 (raises where arguments contradict each other)
        model._probed.denoiser_and_schedule()
        return model

    def settled(self, settings: Settings) -> Settings:
        changes = {}
        for name, (value, source) in self._told.items():
            asked = getattr(settings, name)
            if asked not in (getattr(Settings, name), value):
                raise UsageError(
                    f"the settings' {name} {asked!r} contradicts the pipeline's {source}: leave one out"
                )
            changes[name] = value
        if settings.auto_guidance and "guidance_scale" in changes:
            source = self._told["guidance_scale"][1]
            raise UsageError(
                f"the settings' auto_guidance contradicts the pipeline's {source}: leave one out"
            )
        return replace(settings, **changes)

    def call(self, seed: Sown) -> dict[str, Any]:
        """The arguments with which the stock pipeline makes the picture of a seed:
        `pipe(**model.call(seed))`.

        Raises:
            InputError: the seed belongs to another pipeline, or to other arguments.
        """
        if reason := mismatch(seed.header, seed.recipe, self):
            raise InputError(f"the seed: {reason}")
        return self.denoiser(seed.recipe).call(seed.latents.to(self.device))

    def arguments(self, recipe: Recipe) -> dict[str, Any]:
        full = completed(self.pipeline, self._probed.arguments | self._arguments(recipe))
        names = ({*self.given, conventions(self.pipeline).guidance} & full.keys()) - {
            "prompt",
            "negative_prompt",
            "num_inference_steps",
            "height",
            "width",
        }
        return {name: noted(full[name]) for name in sorted(names) if full[name] is not None}

    def denoiser(self, recipe: Recipe) -> PipelineDenoiser:
        denoiser = self._make(recipe)[0].given()
        denoiser.rescued = set()  # of the photos that it is asked for
        return denoiser

    def schedule(self, recipe: Recipe) -> Schedule:
        return self._make(recipe)[1]

    def scheduler(self, sampler: str) -> Any:
        own = self.pipeline.scheduler
        return own if sampler in ("auto", self.sampler_name("auto")) else make_scheduler(sampler, own)

    def sampler_name(self, sampler: str) -> str:
        """The name itself; "auto" stays where the pipeline's scheduler is of a class without a name."""
        return KINDS.get(type(self.pipeline.scheduler).__name__, "auto") if sampler == "auto" else sampler

    def check_prompts(self, prompt: str, negative_prompt: str) -> None:
        changes = self._prompts(prompt, negative_prompt)
        check_prompts(self.pipeline, completed(self.pipeline, self._probed.arguments | changes))

    def words(self, prompt: str) -> Words:
        names = ("tokenizer", "tokenizer_2")
        tokenizers = [one for name in names if (one := getattr(self.pipeline, name, None)) is not None]
        if not hasattr(self.pipeline, "unet") or not tokenizers:
            raise UsageError(f"{self.title} has no U-Net with words of its own: use --mode swap")
        return spell(self.pipeline, tokenizers, prompt)

    def watched(self) -> AbstractContextManager[WatchedAttention]:
        if not hasattr(self.pipeline, "unet"):
            raise ModelError(f"{self.title} has no U-Net whose attention can be steered: use --mode swap")
        if any("IPAdapter" in type(one).__name__ for one in self.network.attn_processors.values()):
            raise ModelError("attention with an IP-Adapter can't be steered: use --mode swap")
        return watched(self.network)

    def form(self, sampler: str) -> str:
        return "epsilon" if in_epsilon(self.scheduler(sampler)) else self.prediction(sampler)

    def tiled(self, width: int, height: int) -> bool:
        if self.checkpoint:
            return self._tiling.used(width, height)
        return bool(getattr(self.pipeline.vae, "use_tiling", False))  # as its user has set it up

    @property
    def has_negative_prompt(self) -> bool:
        return "negative_prompt" in parameters(self.pipeline)

    @property
    def downsampling(self) -> int:
        return self._probed.downsampling

    @cached_property
    def multiple(self) -> int:
        """Of 8, as seed files hold sizes."""
        return lcm(8, self._probed.multiple)

    @property
    def latent_channels(self) -> int:
        return self._probed.latent_channels

    def encode(self, pixels: Tensor) -> Tensor:
        self._prepare(pixels.shape[-1], pixels.shape[-2])
        return self._probed.encode(pixels)

    def decode(self, image_latents: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        height, width = (side * self.downsampling for side in image_latents.shape[-2:])
        self._prepare(width, height)
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            return self._probed.decode(image_latents)

    def _prepare(self, width: int, height: int) -> None:
        if self.checkpoint:
            self._tiling.prepare(width, height)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the weight files; of a live pipeline, over all its weights, computed once."""
        if self.checkpoint:
            return self.checkpoint.fingerprint(tuple(networks_of(self.pipeline)))
        return hash_of(self._weights)

    def identity(self, sampler: str = "auto") -> dict[str, Any]:
        return describe_pipeline(self.pipeline, self.scheduler(sampler), self._weights)

    @cached_property
    def _weights(self) -> dict[str, str]:
        return weights_of(self.pipeline)

    @property
    def _told(self) -> dict[str, tuple[Any, str]]:
        """Settings that the user's call or the pipeline says: their values, and where they are said."""
        told: dict[str, tuple[Any, str]] = {}
        guidance = conventions(self.pipeline).guidance
        for name in ("prompt", "negative_prompt"):
            if texts := [argument for argument in self.given if argument.startswith(name)]:
                told[name] = self._text(name), name if name in texts else texts[0]
        if guidance in self.given:
            weight = conventions(self.pipeline).setting(float(self.given[guidance]))
            told["guidance_scale"] = weight, f"{guidance}={self.given[guidance]}"
        if "num_inference_steps" in self.given:
            steps = self.given["num_inference_steps"]
            told["num_inference_steps"] = steps, f"num_inference_steps={steps}"
        for name in GRIDS:
            if name in self.given:
                told["num_inference_steps"] = len(self.given[name]), name
        if {"height", "width"} & self.given.keys():
            if not {"height", "width"} <= self.given.keys():
                raise UsageError("a size needs both: give height and width")
            size = f"{self.given['width']}x{self.given['height']}"
            told["size"] = size, f"size {size}"
        if not self.checkpoint:
            told["sampler"] = self.sampler_name("auto"), type(self.pipeline.scheduler).__name__
            told["dtype"] = (name := str(self.dtype).removeprefix("torch.")), name
        return told

    def _text(self, name: str) -> str:
        """A prompt of the user's call; "" where it is given as embeddings, or not at all."""
        text = self.given.get(name, "")
        if isinstance(text, list) and len(text) == 1:
            text = text[0]
        if not isinstance(text, str):
            raise UsageError(f"{name} must be one text, not {type(text).__name__}")
        return text

    def _make(self, recipe: Recipe) -> tuple[PipelineDenoiser, Schedule]:
        key = recipe, self.pipeline.scheduler
        if key not in self._made:
            if len(self._made) >= 16:
                self._made.clear()
            scheduler = self.scheduler(recipe.sampler)
            self._made[key] = self._probed.denoiser_and_schedule(scheduler, **self._arguments(recipe))
        return self._made[key]

    def _arguments(self, recipe: Recipe) -> dict[str, Any]:
        """What a recipe changes in the user's arguments."""
        changes, told = translated(self.pipeline, recipe), self._told
        for name, argument in (
            ("guidance_scale", conventions(self.pipeline).guidance),
            ("num_inference_steps", "num_inference_steps"),
        ):
            if name in told and told[name][0] == getattr(recipe, name):
                changes.pop(argument, None)
            elif name == "num_inference_steps":
                changes |= {grid: None for grid in GRIDS if grid in self.given}
        texts = {name: changes.pop(name) for name in ("prompt", "negative_prompt") if name in changes}
        return changes | self._prompts(**{"prompt": "", "negative_prompt": ""} | texts)

    def _prompts(self, prompt: str, negative_prompt: str) -> dict[str, Any]:
        """Arguments for prompts other than the user's, whose embeddings they replace."""
        changes: dict[str, Any] = {}
        for sign, text in (("", prompt), ("negative_", negative_prompt)):
            if text == self._text(f"{sign}prompt"):
                continue
            if getattr(self.pipeline, "text_encoder", None) is None:
                raise UsageError(
                    f"{self.title} has no text encoder for the prompt {text!r:.60}: leave it out"
                )
            own = (f"{sign}prompt", f"{sign}pooled_prompt")
            changes |= {name: None for name in self.given if name.startswith(own)}
            changes[f"{sign}prompt"] = text
        return changes
