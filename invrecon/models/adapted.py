"""A loaded checkpoint of a family that has an adapter."""

from functools import cached_property, lru_cache, partial
from typing import Any

import torch
from diffusers import SchedulerMixin
from torch import Tensor

from invrecon.core.denoiser import ConditionalDenoiser, Guided
from invrecon.core.editing.words import Words
from invrecon.core.schedule import Schedule
from invrecon.errors import ModelError, UsageError
from invrecon.models.checkpoint import Checkpoint
from invrecon.models.compiling import Compiled
from invrecon.models.epsilon import Epsilon
from invrecon.models.families import Family
from invrecon.models.grid import read_schedule
from invrecon.models.identity import describe
from invrecon.models.memory import free_memory, saved_bytes
from invrecon.models.model import Model
from invrecon.models.precision import Rescued
from invrecon.models.quiet import quiet
from invrecon.models.samplers import make_scheduler, pick_sampler
from invrecon.models.tiling import Tiling
from invrecon.models.words import rewritten, spell
from invrecon.settings import Recipe


class AdaptedModel(Model):
    """A checkpoint through the adapter of its family.

    Args:
        checkpoint: where the pipeline was loaded from.
        pipeline: the stock pipeline whose parts are used.
        family: what tells it from others.
        offload: whether its parts wait on the CPU: "none", "model" or "sequential".
        compiled: whether the network goes through torch.compile.
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
        self.title = family.title
        self.network: Any = getattr(pipeline, family.network)
        self.device: torch.device = pipeline._execution_device
        self.dtype: torch.dtype = self.network.dtype
        self.offload = offload
        self.compiled = compiled
        self._tiling = Tiling(pipeline.vae, self.device, self.downsampling)
        self._conditions = lru_cache(16)(
            partial(family.conditions, pipeline)
        )  # photos of one run mostly share their prompt
        self._schedulers: dict[str, SchedulerMixin] = {}
        channels, expected = self.network.config.in_channels, self.pipeline.vae.config.latent_channels
        if channels not in (expected, 4 * expected):  # four times: Flux packs patches of 2 x 2
            raise ModelError(
                f"{self.name}: its {family.network} takes {channels} channels, not the latents alone (an "
                "inpainting checkpoint?)"
            )

    def check_prompts(self, prompt: str, negative_prompt: str) -> None:
        self.conditions(prompt, negative_prompt)

    def sampler_name(self, sampler: str) -> str:
        return pick_sampler(sampler, self.pipeline.scheduler)

    def scheduler(self, sampler: str) -> SchedulerMixin:
        name = self.sampler_name(sampler)
        if name not in self._schedulers:
            self._schedulers[name] = make_scheduler(name, self.pipeline.scheduler)
        return self._schedulers[name]

    @property
    def downsampling(self) -> int:
        return int(self.pipeline.vae_scale_factor)

    @property
    def multiple(self) -> int:
        return self.family.multiple(self.pipeline)

    @property
    def latent_channels(self) -> int:
        return int(self.pipeline.vae.config.latent_channels)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the weight files."""
        return self.checkpoint.fingerprint((self.family.network, "vae", *self.family.encoders))

    def identity(self, sampler: str = "auto") -> dict[str, Any]:
        """All that the picture of a sampler's seed depends on besides the seed, as JSON; see
        `invrecon.models.identity`.
        """
        scheduler = self.scheduler(sampler)
        return describe(self.checkpoint, self.pipeline, scheduler, self.family.network, self.family.encoders)

    def tiled(self, width: int, height: int) -> bool:
        """Whether the autoencoder works in tiles on pictures of this size, pixels; see `Tiling`."""
        return self._tiling.used(width, height)

    def form(self, sampler: str) -> str:
        """What the schedule of a sampler takes the network to predict: `prediction`, or "epsilon" made of
        it.
        """
        return "epsilon" if self._in_epsilon(sampler) else self.prediction(sampler)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Image latents z_0 = (mean of E(x) - shift) * scale: (B, 3, H, W) in [-1, 1] -> (B, C, H/8, W/8),
        float32.
        """
        vae = self.pipeline.vae
        self._tiling.prepare(pixels.shape[-1], pixels.shape[-2])
        encoded = vae.encode(pixels.to(self.device, vae.dtype))
        mean = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        mean = mean.float().contiguous()  # the network's own is channels-last
        shift, scale = self._normalisation(mean)
        return (mean - shift) * scale

    def decode(self, image_latents: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Pixels D(z_0 / scale + shift): (B, C, h, w) -> (B, 3, 8h, 8w), float32, not yet clamped to [-1, 1].

        Differentiable where `image_latents` require a gradient; what the backward pass keeps is then made
        anew block by block (gradient checkpointing) where it would take more than half of the free memory.

        Args:
            dtype: half precision to compute in (torch.autocast); None for the autoencoder's own.
        """
        vae = self.pipeline.vae
        height, width = (side * self.downsampling for side in image_latents.shape[-2:])
        self._tiling.prepare(width, height)
        pixels_in_all = len(image_latents) * width * height
        keeps_graph = image_latents.requires_grad and not vae.is_gradient_checkpointing
        if keeps_graph and self._backward_bytes * pixels_in_all > free_memory(self.device) / 2:
            vae.enable_gradient_checkpointing()
        shift, scale = self._normalisation(image_latents)
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            pixels = vae.decode((image_latents / scale + shift).to(self.device, vae.dtype)).sample
        return pixels.float().contiguous()

    def _normalisation(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """(shift, scale), (1, C or 1, 1, 1): of all channels, or of each where the autoencoder's
        configuration says so.
        """
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
    def denoiser(self, recipe: Recipe) -> Guided:
        condition, negative = self.conditions(recipe.prompt, recipe.negative_prompt)
        asked = self.family.denoiser(self.pipeline, recipe.guidance_scale)
        network: ConditionalDenoiser = Rescued(Compiled(asked) if self.compiled else asked, self.network)
        scheduler = self.scheduler(recipe.sampler)
        if self._in_epsilon(recipe.sampler):
            network = Epsilon(network, scheduler.alphas_cumprod, scheduler.config.prediction_type)
        branches = 1.0 if self.family.embeds_guidance(self.pipeline) else recipe.guidance_scale
        return Guided(network, condition, negative, branches, torch.finfo(self.dtype).eps)

    @torch.no_grad()
    def conditions(self, prompt: str = "", negative_prompt: str = "") -> tuple[Tensor, Tensor]:
        """(1, L, D) each: of the prompt and of the negative prompt, encoded once.

        Raises:
            UsageError: a prompt is longer than the text encoder takes.
            ModelError: the text encoders can't run as they are configured.
        """
        self._check_length("prompt", prompt)
        self._check_length("negative prompt", negative_prompt)
        try:
            with quiet():
                return self._conditions(prompt, negative_prompt)
        except (ValueError, IndexError, TypeError, ArithmeticError) as error:
            raise ModelError(
                f"{self.name}: its text encoders can't run ({error}): set their config.json right, "
                "or fetch them again"
            ) from error

    def words(self, prompt: str) -> Words:
        names = ("tokenizer", "tokenizer_2") if hasattr(self.pipeline, "unet") else ("tokenizer",)
        tokenizers = filter(None, (getattr(self.pipeline, name, None) for name in names))
        with quiet():
            return spell(self.pipeline, list(tokenizers), prompt)

    def schedule(self, recipe: Recipe) -> Schedule:
        steps = recipe.num_inference_steps
        scheduler = self.scheduler(recipe.sampler)
        if self._in_epsilon(recipe.sampler):
            with quiet():
                scheduler = type(scheduler).from_config(scheduler.config, prediction_type="epsilon")
        return read_schedule(scheduler, steps, **self.family.grid(self.pipeline, recipe))

    def _in_epsilon(self, sampler: str) -> bool:
        """Whether the sampler is taken in epsilon form, on which other methods of inversion build: DDIM, but
        where a noise level of 1 makes it singular.
        """
        if self.sampler_name(sampler) != "ddim":
            return False
        return bool(self.scheduler(sampler).alphas_cumprod.min() > 0)

    def _check_length(self, name: str, text: str) -> None:
        for tokenizer, limit in self.family.limits(self.pipeline):
            with quiet():
                ids = tokenizer(rewritten(self.pipeline, tokenizer, text)).input_ids
            if len(ids) > limit:
                special = tokenizer.num_special_tokens_to_add()
                kept = tokenizer.decode(ids[: limit - 1], skip_special_tokens=True)
                raise UsageError(
                    f"the {name} has {len(ids) - special} tokens, the text encoder takes {limit - special}: "
                    f"end it after {kept[-40:]!r}"
                )
