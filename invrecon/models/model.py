"""A model: all that the rest of the program knows of models."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property, lru_cache
from math import lcm
from typing import Any

import torch
from torch import Tensor

from invrecon.core.editing.words import Words
from invrecon.core.sampler import OnProgress, Sampler
from invrecon.core.schedule import Schedule
from invrecon.errors import InputError, ModelError, UsageError
from invrecon.models.attached import Attachments
from invrecon.models.attention import WatchedAttention, watched
from invrecon.models.call import Call
from invrecon.models.checkpoint import Checkpoint
from invrecon.models.identity import describe, hash_of, networks_of, weights_of
from invrecon.models.kinds import TITLES
from invrecon.models.mismatch import Sown, mismatch
from invrecon.models.probing import PipelineDenoiser, PipelineModel
from invrecon.models.probing.conventions import completed, conventions, parameters
from invrecon.models.probing.epsilon import in_epsilon
from invrecon.models.probing.prompts import check_prompts
from invrecon.models.probing.rescue import networks
from invrecon.models.samplers import KINDS, make_scheduler, pick_sampler, replacement
from invrecon.models.words import spell
from invrecon.settings import Effort, Recipe, Sampling, Settings


class Model:
    """A stock pipeline of diffusers: pixels to image latents and back, recipes to denoisers and schedules.

    Args:
        pipeline: as its user loaded it; it is never changed.
        call: the user's arguments, but for `latents` and `output_type`.
        checkpoint: where it was loaded from; None for a live one.
        offload: whether parts wait on the CPU: "none", "model" or "sequential".
        compiled: whether the network goes through torch.compile.

    Attributes:
        name: as the user knows it.
        network: the part that denoises.
        title: of the family, for people.
        device, dtype: where the network works, and in what.

    Raises:
        ModelError: it can't be inverted; the text says why, in one line.
        UsageError: it takes no such arguments.
    """

    def __init__(
        self,
        pipeline: Any,
        call: Mapping[str, Any],
        checkpoint: Checkpoint | None = None,
        offload: str = "none",
        compiled: bool = False,
    ) -> None:
        kind, loaded = type(pipeline).__name__, checkpoint is not None
        self.offload, self.compiled = offload, compiled
        self.pipeline, self.checkpoint = pipeline, checkpoint
        self._attachments = Attachments(pipeline, checkpoint)
        self.title = TITLES.get(kind, kind)
        self._call = Call(pipeline, call)
        self.base = PipelineModel(pipeline, self._call.base, loaded and kind in TITLES, may_switch=loaded)
        if not networks(pipeline):
            raise ModelError(f"{kind} can't be inverted: it has no transformer and no unet")
        self.network = part = networks(pipeline)[0]
        self.name = checkpoint.name if checkpoint else str(pipeline.config.get("_name_or_path") or kind)
        self.device: torch.device = self.base.device
        self.dtype: torch.dtype = part.dtype  # type: ignore[assignment]
        self._schedulers = lru_cache(8)(make_scheduler)
        self._made: dict[tuple[Recipe, Any], tuple[PipelineDenoiser, Schedule]] = {}

    @classmethod
    def from_pipeline(cls, pipe: Any, **call: Any) -> "Model":
        """The model of a live text-to-image pipeline of diffusers, in place of `load_model`'s.

        A few calls of the pipeline check it. All weights are hashed once, at the first `reconstruct`; weights
        that are changed later (a LoRA, say) need a new model.

        Args:
            pipe: with a vae, a scheduler that draws no noise, and `latents=` among its arguments; it is never
                changed.
            call: what its user calls it with: prompts or embeddings, steps, guidance, height and width,
                control images. These win over the defaults of `Settings`.

        Raises:
            ModelError: it can't be inverted; the text says why, in one line.
            UsageError: it takes no such arguments.
        """
        model = cls(pipe, call)
        model._call.told()
        model.base.denoiser_and_schedule()
        return model

    def call(self, seed: Sown) -> dict[str, Any]:
        """The arguments with which the stock pipeline makes the picture of a seed, under the seed's sampler:
        `pipe(**model.call(seed))`.

        Raises:
            InputError: the seed belongs to another pipeline, or to other arguments.
        """
        if reason := mismatch(seed.header, seed.recipe, self):
            raise InputError(f"the seed: {reason}")
        return self.denoiser(seed.recipe).call(seed.latents.to(self.device))

    def settled(self, settings: Settings) -> Settings:
        """The settings with the arguments that the model was made with in the place of defaults.

        Raises:
            UsageError: a setting contradicts such an argument.
        """
        own: dict[str, tuple[Any, str]] = {}
        if "guidance_scale" not in self._call.told():
            settings = replace(settings, guidance_scale=self.own_guidance(settings.guidance_scale))
        if not self.checkpoint:
            own["sampler"] = self.sampler_name("auto"), type(self.pipeline.scheduler).__name__
            own["dtype"] = (name := str(self.dtype).removeprefix("torch.")), name
        return self._call.settled(settings, own)

    def sampler(
        self, recipe: Recipe, effort: Effort = Effort(), on_progress: OnProgress | None = None
    ) -> Sampler:
        """The denoiser and the grid that a recipe asks for.

        Raises:
            UsageError: a prompt is longer than the text encoder takes.
            ModelError: the scheduler can't be inverted, or can't take so many steps.
        """
        return Sampler(self.denoiser(recipe), self.schedule(recipe), effort, on_progress)

    def check(self, sampling: Sampling) -> None:
        """Raises what `sampler` does for these prompts and this scheduler, whatever the size."""
        self.check_prompts(sampling.prompt, sampling.negative_prompt)
        self.scheduler(sampling.sampler)

    def check_prompts(self, prompt: str, negative_prompt: str) -> None:
        """Raises UsageError where a prompt is longer than the text encoder takes, or there is none."""
        changes = self._call.prompts(prompt, negative_prompt)
        check_prompts(self.pipeline, completed(self.pipeline, self.base.arguments | changes))

    def denoiser(self, recipe: Recipe) -> PipelineDenoiser:
        """What the network predicts under a recipe's prompts, as its schedule takes it.

        Raises:
            UsageError: a prompt is longer than the text encoder takes.
            ModelError: the pipeline can't be called so.
        """
        denoiser = self._make(recipe)[0].given()
        denoiser.rescued = set()  # of the photos that it is asked for
        return denoiser

    def schedule(self, recipe: Recipe) -> Schedule:
        """The grid and coefficients of a recipe's sampler.

        Raises:
            ModelError: the scheduler can't be inverted, or can't take so many steps.
        """
        return self._make(recipe)[1]

    def _make(self, recipe: Recipe) -> tuple[PipelineDenoiser, Schedule]:
        key = recipe, self.scheduler(recipe.sampler)
        if key not in self._made:
            if len(self._made) >= 16:
                self._made.clear()
            self._made[key] = self.base.denoiser_and_schedule(key[1], **self._call.under(recipe))
        return self._made[key]

    def sampler_name(self, sampler: str) -> str:
        """ "ddim", "euler" or "dpm++"; for "auto", what the pipeline's own scheduler stands for, or "auto"
        where a live pipeline's is of a class without a name.

        Raises:
            ModelError: that of a checkpoint can't be inverted.
        """
        if sampler != "auto":
            return sampler
        own = self.pipeline.scheduler
        return pick_sampler(sampler, own) if self.checkpoint else KINDS.get(type(own).__name__, "auto")

    def replacement(self, sampler: str) -> str:
        """What to tell where a sampler takes the place of the checkpoint's own; "" else."""
        return replacement(sampler, self.pipeline.scheduler) if self.checkpoint else ""

    def scheduler(self, sampler: str) -> Any:
        """A sampler as a scheduler of diffusers; a live pipeline's own where it is that. Raises ModelError
        where it can't be inverted."""
        own, name = self.pipeline.scheduler, self.sampler_name(sampler)
        if not self.checkpoint and name == self.sampler_name("auto"):
            return own
        return self._schedulers(name, own)

    def prediction(self, sampler: str) -> str:
        """What the network predicts: "epsilon", "v_prediction", "sample" or "flow"."""
        return str(self.scheduler(sampler).config.get("prediction_type", "flow"))

    def form(self, sampler: str) -> str:
        """What a sampler's schedule takes the network to predict: `prediction`, or "epsilon" made of it."""
        return "epsilon" if in_epsilon(self.scheduler(sampler)) else self.prediction(sampler)

    @property
    def guidance_argument(self) -> str:
        """What the stock pipeline calls its guidance scale: "guidance_scale", say."""
        return self._call.guidance

    @property
    def no_guidance(self) -> float:
        """The guidance scale that means none, in the pipeline's own terms: 1, or 0 for Z-Image."""
        return conventions(self.pipeline).unguided

    def own_guidance(self, guidance_scale: float) -> float:
        """A guidance scale in the pipeline's own terms; the setting's default means none. Raises UsageError
        where it is less than none."""
        own = self.no_guidance if guidance_scale == Settings.guidance_scale else guidance_scale
        if own < self.no_guidance:
            none = f"{self.no_guidance:g}, which means none for {self.title}"
            raise UsageError(f"guidance_scale must be at least {none}, not {own:g}")
        return own

    @property
    def has_negative_prompt(self) -> bool:
        """Whether it can be told a negative prompt."""
        return "negative_prompt" in parameters(self.pipeline)

    def words(self, prompt: str) -> Words:
        """The words of a prompt and the places of their tokens.

        Raises:
            UsageError: words have no places of their own.
        """
        return spell(self.pipeline, prompt)

    def watched(self) -> AbstractContextManager[WatchedAttention]:
        """The network's attention layers, for the time of a `with` block.

        Raises:
            ModelError: they can't be watched, as in transformers that attend to text and picture at once.
        """
        return watched(self.pipeline)

    @property
    def downsampling(self) -> int:
        """Pixels to a latent, along a side."""
        return self.base.downsampling

    @cached_property
    def multiple(self) -> int:
        """What the sides of a picture must be multiples of, pixels; of 8, as seed files hold sizes."""
        return lcm(8, self.base.multiple)

    @property
    def latent_channels(self) -> int:
        """C of image latents (B, C, h, w)."""
        return self.base.latent_channels

    def tiled(self, width: int, height: int) -> bool:
        """Whether the autoencoder works in tiles on pictures of this size, pixels; see `Tiling`."""
        return self.base.autoencoder.tiled(width, height)

    def encode(self, pixels: Tensor) -> Tensor:
        """Image latents z_0, the mean of E(x) as the sampler has it: (B, 3, H, W) in [-1, 1] -> (B, C, h, w),
        float32."""
        return self.base.encode(pixels)

    def decode(self, image_latents: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Pixels of image latents: (B, C, h, w) -> (B, 3, H, W), float32, not yet clamped to [-1, 1].

        Differentiable where `image_latents` require a gradient; what the backward pass keeps is then made
        anew block by block (gradient checkpointing) where it would take more than half of the free memory.

        Args:
            dtype: half precision to compute in (torch.autocast); None for the autoencoder's own.
        """
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            return self.base.decode(image_latents)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the weight files, so that a seed knows the network it was found with; of a live
        pipeline, over all its weights, computed once."""
        checkpoint, parts = self.checkpoint, tuple(networks_of(self.pipeline))
        return checkpoint.fingerprint(parts) if checkpoint else hash_of(self._weights)

    def identity(self, sampler: str = "auto") -> dict[str, Any]:
        """All that the picture of a sampler's seed depends on besides it, as JSON; see `models.identity`."""
        return describe(self.pipeline, self.scheduler(sampler), self._weights, self._attachments.told())

    def arguments(self, recipe: Recipe) -> dict[str, Any]:
        """What the pipeline is called with beside a recipe, as JSON; see `models.arguments`."""
        return self._call.noted(recipe)

    @cached_property
    def _weights(self) -> dict[str, str]:
        return weights_of(self.pipeline, self.checkpoint)
