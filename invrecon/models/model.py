"""A loaded checkpoint: all that the rest of the program knows of models."""

from contextlib import AbstractContextManager
from copy import copy
from functools import cached_property, lru_cache, partial
from typing import Any

import torch
from diffusers import SchedulerMixin
from torch import Tensor

from invrecon.core.denoiser import Guided
from invrecon.core.editing.words import Words
from invrecon.core.schedule import Schedule
from invrecon.errors import ModelError, UsageError
from invrecon.models.attention import WatchedAttention, watched
from invrecon.models.checkpoint import Checkpoint
from invrecon.models.compiling import Compiled
from invrecon.models.epsilon import Epsilon
from invrecon.models.families import Family
from invrecon.models.grid import read_schedule
from invrecon.models.identity import describe
from invrecon.models.memory import free_memory, saved_bytes
from invrecon.models.precision import Rescued
from invrecon.models.quiet import quiet
from invrecon.models.samplers import make_scheduler, pick_sampler
from invrecon.models.words import rewritten, spell


class Model:
    """Pixels to image latents and back, prompts to denoisers, step counts to schedules.

    Args:
        checkpoint: where the pipeline was loaded from.
        pipeline: the stock pipeline whose parts are used.
        family: what tells it from others.
        offload: whether its parts wait on the CPU: "none", "model" or "sequential".
        compiled: whether the network goes through torch.compile.

    The sampler is what the checkpoint's own scheduler stands for, unless `with_sampler` says otherwise.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        pipeline: Any,
        family: Family,
        offload: str = "none",
        compiled: bool = False,
    ) -> None:
        self.name = checkpoint.name
        self.checkpoint = checkpoint
        self.pipeline = pipeline
        self.family = family
        self.network: Any = getattr(pipeline, family.network)
        self.device: torch.device = pipeline._execution_device
        self.dtype: torch.dtype = self.network.dtype
        self.offload = offload
        self.compiled = compiled
        self._conditions = lru_cache(16)(
            partial(family.conditions, pipeline)
        )  # photos of one run mostly share their prompt
        self._sampler = "auto"
        channels, expected = self.network.config.in_channels, self.pipeline.vae.config.latent_channels
        if channels not in (expected, 4 * expected):  # four times: Flux packs patches of 2 x 2
            raise ModelError(
                f"{self.name}: its {family.network} takes {channels} channels, not the latents alone (an inpainting checkpoint?)"
            )

    def with_sampler(self, sampler: str) -> "Model":
        """The same model under another sampler; the weights are shared.

        Args:
            sampler: "ddim", "euler" or "dpm++"; "auto" leaves it at that of this one.
        """
        other = copy(self)
        other.__dict__.pop("scheduler", None)
        other._sampler = self._sampler if sampler == "auto" else sampler
        return other

    @property
    def sampler(self) -> str:
        """Its name. Raises ModelError where the checkpoint's own scheduler can't be inverted and no other was asked for."""
        return pick_sampler(self._sampler, self.pipeline.scheduler)

    @cached_property
    def scheduler(self) -> SchedulerMixin:
        """The sampler as a scheduler of diffusers. Raises ModelError where it can't be inverted."""
        return make_scheduler(self.sampler, self.pipeline.scheduler)

    @property
    def prediction(self) -> str:
        """What the network predicts: "epsilon", "v_prediction", "sample" or "flow"."""
        return str(self.scheduler.config.get("prediction_type", "flow"))

    @property
    def downsampling(self) -> int:
        """Pixels to a latent, along a side."""
        return int(self.pipeline.vae_scale_factor)

    @property
    def multiple(self) -> int:
        """What the sides of a picture must be multiples of, pixels."""
        return self.family.multiple(self.pipeline)

    @property
    def latent_channels(self) -> int:
        return int(self.pipeline.vae.config.latent_channels)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the weight files, so that a seed knows the network it was found with."""
        return self.checkpoint.fingerprint((self.family.network, "vae", *self.family.encoders))

    def identity(self) -> dict[str, Any]:
        """All that a seed's picture depends on besides the seed, as JSON; see `invrecon.models.identity`."""
        return describe(
            self.checkpoint, self.pipeline, self.scheduler, self.family.network, self.family.encoders
        )

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Image latents z_0 = (mean of E(x) - shift) * scale: (B, 3, H, W) in [-1, 1] -> (B, C, H/8, W/8), float32."""
        vae = self.pipeline.vae
        encoded = vae.encode(pixels.to(self.device, vae.dtype))
        mean = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        mean = mean.float().contiguous()  # the network's own is channels-last
        shift, scale = self._normalisation(mean)
        return (mean - shift) * scale

    def decode(self, image_latents: Tensor) -> Tensor:
        """Pixels D(z_0 / scale + shift): (B, C, h, w) -> (B, 3, 8h, 8w), float32, not yet clamped to [-1, 1].

        Differentiable where `image_latents` require a gradient; what the backward pass keeps is then made anew block by block
        (gradient checkpointing) where it would take more than half of the free memory.
        """
        vae = self.pipeline.vae
        if image_latents.requires_grad and not vae.is_gradient_checkpointing:
            pixels = (
                image_latents.shape[0]
                * image_latents.shape[-2]
                * image_latents.shape[-1]
                * self.downsampling**2
            )
            if self._backward_bytes * pixels > free_memory(self.device) / 2:
                vae.enable_gradient_checkpointing()
        shift, scale = self._normalisation(image_latents)
        return (
            vae.decode((image_latents / scale + shift).to(self.device, vae.dtype)).sample.float().contiguous()
        )

    def _normalisation(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """(shift, scale), (1, C or 1, 1, 1): of all channels, or of each where the autoencoder's configuration says so."""
        config = self.pipeline.vae.config
        mean, deviation = config.get("latents_mean"), config.get("latents_std")
        by_channel = mean is not None and deviation is not None
        shift = (
            torch.as_tensor(mean if by_channel else config.get("shift_factor") or 0.0)
            .to(like)
            .view(1, -1, 1, 1)
        )
        return shift, config.scaling_factor / torch.as_tensor(deviation if by_channel else 1.0).to(like).view(
            1, -1, 1, 1
        )

    @cached_property
    def _backward_bytes(self) -> float:
        """Bytes a pixel that the decoder keeps for a backward pass, seen on 64 x 64 pixels."""
        vae, side = self.pipeline.vae, 64 // self.downsampling
        latents = torch.zeros(1, self.latent_channels, side, side, dtype=vae.dtype, device=self.device)
        return saved_bytes(lambda z: vae.decode(z).sample, latents) / 64**2

    @torch.no_grad()
    def denoiser(self, prompt: str = "", negative_prompt: str = "", guidance_scale: float = 1.0) -> Guided:
        """What the network predicts under a prompt, as this sampler's schedule takes it.

        Raises:
            UsageError: a prompt is longer than the text encoder takes.
        """
        condition, negative = self.conditions(prompt, negative_prompt)
        asked = self.family.denoiser(self.pipeline, guidance_scale)
        network = Rescued(Compiled(asked) if self.compiled else asked, self.network)
        branches = 1.0 if self.family.embeds_guidance(self.pipeline) else guidance_scale
        prediction = (
            Epsilon(network, self.scheduler.alphas_cumprod, self.scheduler.config.prediction_type)
            if self._in_epsilon
            else network
        )
        return Guided(prediction, condition, negative, branches, torch.finfo(self.dtype).eps)

    @torch.no_grad()
    def conditions(self, prompt: str = "", negative_prompt: str = "") -> tuple[Tensor, Tensor]:
        """(1, L, D) each: of the prompt and of the negative prompt, encoded once.

        Raises:
            UsageError: a prompt is longer than the text encoder takes.
            ModelError: the text encoders can't run as they are configured.
        """
        for text in (prompt, negative_prompt):
            self._check_length(text)
        try:
            with quiet():
                return self._conditions(prompt, negative_prompt)
        except (ValueError, IndexError, TypeError, ArithmeticError) as error:
            raise ModelError(
                f"{self.name}: its text encoders can't run ({error}): set their config.json right, or fetch them again"
            ) from error

    def words(self, prompt: str) -> Words:
        """The words of a prompt and the places of their tokens.

        Raises:
            UsageError: two tokenizers of a U-Net place them differently.
        """
        names = ("tokenizer", "tokenizer_2") if hasattr(self.pipeline, "unet") else ("tokenizer",)
        tokenizers = filter(None, (getattr(self.pipeline, name, None) for name in names))
        with quiet():
            return spell(self.pipeline, list(tokenizers), prompt)

    def watched(self) -> AbstractContextManager[WatchedAttention]:
        """The network's attention layers, for the time of a `with` block.

        Raises:
            ModelError: they can't be watched, as in transformers that attend to text and picture at once.
        """
        return watched(self.network)

    def schedule(self, num_inference_steps: int, size: int = 512) -> Schedule:
        """The sampler's grid and coefficients.

        Args:
            num_inference_steps: T.
            size: side of the picture, pixels; Flux and some SD 3 checkpoints have a grid for each.
        """
        scheduler = self.scheduler
        if self._in_epsilon:
            with quiet():
                scheduler = type(scheduler).from_config(scheduler.config, prediction_type="epsilon")
        return read_schedule(
            scheduler, num_inference_steps, **self.family.grid(self.pipeline, num_inference_steps, size)
        )

    @property
    def _in_epsilon(self) -> bool:
        """DDIM is taken in epsilon form, which other methods of inversion build on, but where a noise level of 1 makes it singular."""
        return self.sampler == "ddim" and bool(self.scheduler.alphas_cumprod.min() > 0)

    def _check_length(self, text: str) -> None:
        for tokenizer, limit in self.family.limits(self.pipeline):
            with quiet():
                ids = tokenizer(rewritten(self.pipeline, tokenizer, text)).input_ids
            if len(ids) > limit:
                special = tokenizer.num_special_tokens_to_add()
                kept = tokenizer.decode(ids[: limit - 1], skip_special_tokens=True)
                raise UsageError(
                    f"the prompt has {len(ids) - special} tokens, the text encoder takes {limit - special}: "
                    f"end it after {kept[-40:]!r}"
                )
