"""What every inversion rests on: the photo as the model sees it, and the sampler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL.Image import Image
from torch import Tensor

from invrecon.config import Settings
from invrecon.core.denoiser import Guided
from invrecon.core.schedule import Schedule
from invrecon.errors import UsageError
from invrecon.image import Canvas, Photo, load_photo, plan_canvas, to_image, to_tensor
from invrecon.metrics import psnr

if TYPE_CHECKING:
    from invrecon.models import Model

OnProgress = Callable[[str, int, int], None]
"""Called with (stage, steps done, steps in all)."""

OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class Subject:
    """A photo as the model sees it: `original` on the canvas, `pixels` (1, 3, H, W) in [-1, 1], and E(x), `encoded`."""

    photo: Photo
    canvas: Canvas
    original: Image
    pixels: Tensor
    encoded: Tensor

    @torch.no_grad()
    def score(self, model: Model, image_latents: Tensor) -> float:
        """PSNR of the picture that image latents decode to, 8 bits, dB."""
        return psnr(self.original, to_image(model.decode(image_latents), model.dtype))


def find_subject(path: Path, model: Model, settings: Settings) -> Subject:
    """The photo on the model's canvas, encoded.

    Raises:
        InputError: the photo can't be used.
        UsageError: the model can't do with the size.
    """
    _check_size(model, settings)
    photo = load_photo(path)
    canvas = plan_canvas(photo.rgb.size, settings.size, settings.fit)
    original = canvas.place(photo.rgb)
    pixels = to_tensor(original).to(model.device)
    return Subject(photo, canvas, original, pixels, model.encode(pixels))


def sampler(model: Model, settings: Settings) -> tuple[Guided, Schedule]:
    """The denoiser and the steps that the settings ask for.

    Raises:
        UsageError, ModelError: the model can't do with them.
    """
    _check_size(model, settings)
    model = model.with_sampler(settings.sampler)
    denoiser = model.denoiser(settings.prompt, settings.negative_prompt, settings.guidance_scale)
    return denoiser, model.schedule(settings.num_inference_steps, settings.size)


def _check_size(model: Model, settings: Settings) -> None:
    if settings.size % model.multiple:
        raise UsageError(f"size must be a multiple of {model.multiple} for {model.name}, not {settings.size}")


def stage(on_progress: OnProgress | None, name: str) -> OnStep | None:
    """A callback for one stage's steps."""
    return partial(on_progress, name) if on_progress else None
