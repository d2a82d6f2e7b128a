"""A model: all that the rest of the program knows of models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from invrecon.core.denoiser import GuidedDenoiser
from invrecon.core.editing.words import Words
from invrecon.core.sampler import OnProgress, Sampler
from invrecon.core.schedule import Schedule
from invrecon.models.attention import WatchedAttention, watched
from invrecon.models.probing.conventions import conventions
from invrecon.settings import Effort, Recipe, Sampling, Settings

if TYPE_CHECKING:
    from invrecon.models.probed import ProbedModel


class Model(ABC):
    """Pixels to image latents and back, recipes to denoisers and schedules.

    Attributes:
        name: as the user knows it.
        pipeline: the pipeline of diffusers whose parts are used.
        network: the part that denoises.
        title: of the family, for people.
        device, dtype: where the network works, and in what.
        offload: whether parts wait on the CPU: "none", "model" or "sequential".
        compiled: whether the network goes through torch.compile.
    """

    name: str
    pipeline: Any
    network: Any
    title: str
    device: torch.device
    dtype: torch.dtype
    offload: str = "none"
    compiled: bool = False

    @staticmethod
    def from_pipeline(pipe: Any, **call: Any) -> ProbedModel:
        """The model of a live text-to-image pipeline of diffusers, in place of `load_model`'s.

        A few calls of the pipeline check it. The first `reconstruct` or `fingerprint` hashes all weights
        once; weights that are changed later (a LoRA, say) need a new model.

        Args:
            pipe: with a vae, a scheduler that draws no noise, and `latents=` among its arguments; it is never
                changed.
            call: what its user calls it with: prompts or embeddings, steps, guidance, height and width,
                control images. These win over the defaults of `Settings`.

        Raises:
            ModelError: it can't be inverted; the text says why, in one line.
            UsageError: it takes no such arguments.
        """
        from invrecon.models.probed import ProbedModel

        return ProbedModel.checked(pipe, call)

    def sampler(
        self, recipe: Recipe, effort: Effort = Effort(), on_progress: OnProgress | None = None
    ) -> Sampler:
        """The denoiser and the grid that a recipe asks for.

        Raises:
            UsageError: a prompt is longer than the text encoder takes.
            ModelError: the scheduler can't be inverted, or can't take so many steps.
        """
        return Sampler(self.denoiser(recipe), self.schedule(recipe), effort, on_progress)

    def settled(self, settings: Settings) -> Settings:
        """The settings with the arguments that the model was made with in the place of defaults.

        Raises:
            UsageError: a setting contradicts such an argument.
        """
        return settings

    def arguments(self, recipe: Recipe) -> dict[str, Any]:
        """What the pipeline is called with besides what the recipe says, as JSON; see
        `invrecon.models.arguments`."""
        return {}

    @property
    def has_negative_prompt(self) -> bool:
        """Whether it can be told a negative prompt."""
        return True

    def check(self, sampling: Sampling) -> None:
        """Raises what `sampler` does for these prompts and this scheduler, whatever the size."""
        self.check_prompts(sampling.prompt, sampling.negative_prompt)
        self.scheduler(sampling.sampler)

    def prediction(self, sampler: str) -> str:
        """What the network predicts: "epsilon", "v_prediction", "sample" or "flow"."""
        return str(self.scheduler(sampler).config.get("prediction_type", "flow"))

    @abstractmethod
    def form(self, sampler: str) -> str:
        """What the schedule of a sampler takes the network to predict: `prediction`, or "epsilon" made of
        it.
        """

    @property
    def guidance_argument(self) -> str:
        """What the stock pipeline calls its guidance scale: "guidance_scale", say."""
        return conventions(self.pipeline).guidance

    @abstractmethod
    def tiled(self, width: int, height: int) -> bool:
        """Whether the autoencoder works in tiles on pictures of this size, pixels; see `Tiling`."""

    def watched(self) -> AbstractContextManager[WatchedAttention]:
        """The network's attention layers, for the time of a `with` block.

        Raises:
            ModelError: they can't be watched, as in transformers that attend to text and picture at once.
        """
        return watched(self.network)

    def noise_in(self, latents: Tensor, prediction: Tensor, timestep: float) -> Tensor:
        """eps of latents at a timestep. In flow matching the network predicts v = eps - z_0, so eps = z + (1
        - sigma) v.
        """
        scheduler = self.pipeline.scheduler
        if hasattr(scheduler, "alphas_cumprod") and not scheduler.config.get("use_flow_sigmas"):
            return prediction
        return latents + (1 - timestep / scheduler.config.num_train_timesteps) * prediction

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 over the weights, so that a seed knows the network it was found with."""

    @abstractmethod
    def identity(self, sampler: str = "auto") -> dict[str, Any]:
        """All that the picture of a sampler's seed depends on besides the seed, as JSON; see
        `invrecon.models.identity`.
        """

    @abstractmethod
    def denoiser(self, recipe: Recipe) -> GuidedDenoiser:
        """What the network predicts under a recipe's prompts, as its schedule takes it.

        Raises:
            UsageError: a prompt is longer than the text encoder takes.
        """

    @abstractmethod
    def schedule(self, recipe: Recipe) -> Schedule:
        """The grid and coefficients of a recipe's sampler.

        Raises:
            ModelError: the scheduler can't be inverted, or can't take so many steps.
        """

    @abstractmethod
    def scheduler(self, sampler: str) -> Any:
        """A sampler as a scheduler of diffusers. Raises ModelError where it can't be inverted."""

    @abstractmethod
    def sampler_name(self, sampler: str) -> str:
        """ "ddim", "euler" or "dpm++"; for "auto", what the model's own scheduler stands for.

        Raises:
            ModelError: that can't be inverted.
        """

    @abstractmethod
    def check_prompts(self, prompt: str, negative_prompt: str) -> None:
        """Raises UsageError where a prompt is longer than the text encoder takes, ModelError where the text
        encoders can't run as they are configured."""

    @abstractmethod
    def words(self, prompt: str) -> Words:
        """The words of a prompt and the places of their tokens.

        Raises:
            UsageError: words have no places of their own.
        """

    @property
    @abstractmethod
    def downsampling(self) -> int:
        """Pixels to a latent, along a side."""

    @property
    @abstractmethod
    def multiple(self) -> int:
        """What the sides of a picture must be multiples of, pixels."""

    @property
    @abstractmethod
    def latent_channels(self) -> int:
        """C of image latents (B, C, h, w)."""

    @abstractmethod
    def encode(self, pixels: Tensor) -> Tensor:
        """Image latents z_0, the mean of E(x) as the sampler has it: (B, 3, H, W) in [-1, 1] -> (B, C, h, w),
        float32."""

    @abstractmethod
    def decode(self, image_latents: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Pixels of image latents: (B, C, h, w) -> (B, 3, H, W), float32, not yet clamped to [-1, 1].

        Differentiable where `image_latents` require a gradient; what the backward pass keeps is then made
        anew block by block (gradient checkpointing) where it would take more than half of the free memory.

        Args:
            dtype: half precision to compute in (torch.autocast); None for the autoencoder's own.
        """
