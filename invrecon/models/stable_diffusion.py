"""Stable Diffusion 1.x and 2.x checkpoints, and `mini`, which has their architecture."""

import hashlib
import json
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from invrecon.core.denoiser import Guided
from invrecon.core.editing.words import Words
from invrecon.core.schedule import Schedule
from invrecon.errors import ModelError, UsageError
from invrecon.models.attention import WatchedAttention, watched
from invrecon.models.ddim import ddim_scheduler, read_schedule
from invrecon.models.memory import free_memory, saved_bytes
from invrecon.models.quiet import quiet
from invrecon.models.words import spell

PARTS = ("unet", "vae", "text_encoder")


class UNetDenoiser:
    """eps(z, t, c) of a U-Net, whatever it was trained to predict (a = sqrt(abar_t), s = sqrt(1 - abar_t)):

        epsilon: eps = u        v_prediction: eps = a u + s z        sample: eps = (z - a u) / s

    The network runs in its own dtype, the conversion in that of the latents.
    """

    def __init__(self, unet: torch.nn.Module, alphas_cumprod: Tensor, prediction_type: str) -> None:
        self.unet = unet
        self.alphas_cumprod = alphas_cumprod.tolist()
        self.prediction_type = prediction_type

    def __call__(self, latents: Tensor, timestep: int, condition: Tensor) -> Tensor:
        dtype = next(self.unet.parameters()).dtype
        output = self.unet(latents.to(dtype), timestep, encoder_hidden_states=condition.to(dtype)).sample.to(latents.dtype)
        a, s = self.alphas_cumprod[timestep] ** 0.5, (1 - self.alphas_cumprod[timestep]) ** 0.5
        if self.prediction_type == "v_prediction":
            return a * output + s * latents
        if self.prediction_type == "sample":
            return (latents - a * output) / s
        return output


class Model:
    """A loaded checkpoint: pixels to image latents and back, prompts to denoisers, step counts to schedules.

    Args:
        pipeline: the stock pipeline whose parts are used.
        name: as the user knows it.
        folder: where it was loaded from.
    """

    def __init__(self, pipeline: StableDiffusionPipeline, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.pipeline = pipeline
        self.scheduler = ddim_scheduler(pipeline.scheduler.config)
        self.device = pipeline.unet.device
        self.dtype = pipeline.unet.dtype
        self.prediction_type: str = self.scheduler.config.prediction_type
        if self.prediction_type not in ("epsilon", "v_prediction", "sample"):
            raise ModelError(f"{name}: the scheduler's prediction_type {self.prediction_type!r} is not one that can be inverted")

    @property
    def downsampling(self) -> int:
        """Pixels to a latent, along a side."""
        return int(self.pipeline.vae_scale_factor)

    @property
    def latent_channels(self) -> int:
        return int(self.pipeline.unet.config.in_channels)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the weight files, so that a seed knows the network it was found with."""
        digest = hashlib.sha256()
        for path in sorted(path for part in PARTS for path in (self.folder / part).glob("*.safetensors")):
            digest.update(f"{path.parent.name}/{path.name}".encode())
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Image latents z_0 = (mean of E(x) - shift) * scale: (B, 3, H, W) in [-1, 1] -> (B, C, H/8, W/8), float32."""
        vae = self.pipeline.vae
        mean = vae.encode(pixels.to(self.device, vae.dtype)).latent_dist.mode().float()
        return (mean - (vae.config.get("shift_factor") or 0.0)) * vae.config.scaling_factor

    def decode(self, image_latents: Tensor) -> Tensor:
        """Pixels D(z_0 / scale + shift): (B, C, h, w) -> (B, 3, 8h, 8w), float32, not yet clamped to [-1, 1].

        Differentiable where `image_latents` require a gradient; what the backward pass keeps is then made anew block by block
        (gradient checkpointing) where it would take more than half of the free memory.
        """
        vae = self.pipeline.vae
        if image_latents.requires_grad and not vae.is_gradient_checkpointing:
            pixels = image_latents.shape[0] * image_latents.shape[-2] * image_latents.shape[-1] * self.downsampling**2
            if self._backward_bytes * pixels > free_memory(self.device) / 2:
                vae.enable_gradient_checkpointing()
        latents = image_latents / vae.config.scaling_factor + (vae.config.get("shift_factor") or 0.0)
        return vae.decode(latents.to(self.device, vae.dtype)).sample.float()

    @cached_property
    def _backward_bytes(self) -> float:
        """Bytes a pixel that the decoder keeps for a backward pass, seen on 64 x 64 pixels."""
        vae, side = self.pipeline.vae, 64 // self.downsampling
        latents = torch.zeros(1, self.latent_channels, side, side, dtype=vae.dtype, device=self.device)
        return saved_bytes(lambda z: vae.decode(z).sample, latents) / 64**2

    @torch.no_grad()
    def denoiser(self, prompt: str = "", negative_prompt: str = "", guidance_scale: float = 1.0) -> Guided:
        """eps(z, t) under a prompt.

        Raises:
            UsageError: a prompt is longer than the text encoder takes.
        """
        for text in (prompt, negative_prompt):
            self._check_length(text)
        condition, negative = self.pipeline.encode_prompt(prompt, self.device, 1, True, negative_prompt=negative_prompt)
        unet = UNetDenoiser(self.pipeline.unet, self.scheduler.alphas_cumprod, self.prediction_type)
        return Guided(unet, condition, negative, guidance_scale)

    def words(self, prompt: str) -> Words:
        """The words of a prompt and the places of their tokens."""
        return spell(self.pipeline.tokenizer, prompt)

    def watched(self) -> AbstractContextManager[WatchedAttention]:
        """The U-Net's attention layers, for the time of a `with` block."""
        return watched(self.pipeline.unet)

    def schedule(self, num_inference_steps: int) -> Schedule:
        """The DDIM grid and coefficients for so many steps."""
        return read_schedule(self.scheduler, num_inference_steps)

    def _check_length(self, text: str) -> None:
        tokenizer = self.pipeline.tokenizer
        ids = tokenizer(text).input_ids
        if len(ids) > tokenizer.model_max_length:
            kept = tokenizer.decode(ids[: tokenizer.model_max_length - 1], skip_special_tokens=True)
            limit = tokenizer.model_max_length - 2
            raise UsageError(f"the prompt has {len(ids) - 2} tokens, the text encoder takes {limit}: end it after {kept[-40:]!r}")


def load(folder: Path, name: str, device: str, dtype: str) -> Model:
    """Loads a diffusers folder through the stock pipeline, safetensors only, without network.

    Raises:
        ModelError: something in the folder is missing, damaged, or of another kind.
    """
    target = _pick_device(device)
    try:
        kind = json.loads((folder / "model_index.json").read_text()).get("_class_name")
        if kind != StableDiffusionPipeline.__name__:
            raise ValueError(f"it is a {kind}, and only {StableDiffusionPipeline.__name__} can be inverted for now")
        with quiet():
            pipeline = StableDiffusionPipeline.from_pretrained(
                folder, torch_dtype=getattr(torch, dtype), use_safetensors=True, local_files_only=True, safety_checker=None
            )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, ImportError) as error:
        raise ModelError(f"can't load the model {name}: {_first_line(error)}") from error
    with quiet():
        pipeline.to(target)
        pipeline.vae.to(torch.float32)
    for part in PARTS:
        getattr(pipeline, part).requires_grad_(False).eval()
    return Model(pipeline, name, folder)


def _pick_device(device: str) -> torch.device:
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(kind for kind, available in there.items() if available))
    if not there[device]:
        raise ModelError(f"device {device} isn't available to torch here: use --device auto or cpu")
    return torch.device(device)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
