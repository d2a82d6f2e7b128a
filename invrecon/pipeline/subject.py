"""A photo as the model sees it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL.Image import Image
from torch import Tensor

from invrecon.image import Canvas, Photo, load_photo, plan_canvas, to_image, to_tensor
from invrecon.metrics import psnr

if TYPE_CHECKING:
    from invrecon.models import Model
    from invrecon.settings import Settings


@dataclass(frozen=True)
class Subject:
    """A photo as the model sees it.

    Args:
        original: the photo on the canvas.
        pixels: of `original`, (1, 3, H, W) in [-1, 1], on the model's device.
        encoded: E(x), (1, C, h, w).
    """

    photo: Photo
    canvas: Canvas
    original: Image
    pixels: Tensor
    encoded: Tensor

    def score(self, model: Model, image_latents: Tensor) -> float:
        """PSNR of the picture that image latents decode to, 8 bits, dB."""
        return psnr(self.original, decode(model, image_latents))


def find_subject(path: Path, model: Model, settings: Settings) -> Subject:
    """The photo on the model's canvas, encoded.

    Raises:
        InputError: the photo can't be used.
    """
    photo = load_photo(path)
    canvas = plan_canvas(photo.rgb.size, settings.size, settings.fit)
    original = canvas.place(photo.rgb)
    pixels = to_tensor(original).to(model.device)
    return Subject(photo, canvas, original, pixels, model.encode(pixels))


@torch.no_grad()
def decode(model: Model, image_latents: Tensor) -> Image:
    """The 8-bit picture of image latents, (1, C, h, w)."""
    return to_image(model.decode(image_latents), model.dtype)
