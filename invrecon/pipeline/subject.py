"""A photo as the model sees it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import torch
from PIL.Image import Image
from torch import Tensor

from invrecon.image import Canvas, Photo, load_photo, plan_canvas, to_image, to_tensor
from invrecon.metrics import psnr
from invrecon.models.checks import check_values

if TYPE_CHECKING:
    from invrecon.models import Model
    from invrecon.settings import Recipe, Settings


class Autoencoding(Protocol):
    """What a photo needs of a model, or of an autoencoder by itself."""

    name: str
    device: torch.device
    dtype: torch.dtype

    @property
    def multiple(self) -> int:
        """What the sides of a picture must be multiples of, pixels."""

    def encode(self, pixels: Tensor) -> Tensor:
        """E(x): (B, 3, H, W) in [-1, 1] -> (B, C, h, w)."""

    def decode(self, image_latents: Tensor) -> Tensor:
        """D(z): (B, C, h, w) -> (B, 3, H, W), not yet clamped."""


@dataclass(frozen=True)
class Subject:
    """A photo as the model sees it.

    Args:
        original: the photo on the canvas, as the model sees it.
        pixels: of `original`, (1, 3, H, W) in [-1, 1], on the model's device.
        encoded: E(x), (1, C, h, w).
    """

    photo: Photo
    canvas: Canvas
    original: Image
    pixels: Tensor
    encoded: Tensor

    def psnr(self, picture: Image) -> float:
        """PSNR of a picture of the canvas's size against the photo as the model sees it, dB; padding is left
        out.
        """
        return psnr(self.original.crop(self.canvas.seen), picture.crop(self.canvas.seen))

    def score(self, model: Autoencoding, image_latents: Tensor, recipe: Recipe | None = None) -> float:
        """`psnr` of the 8-bit picture that image latents decode to, dB; see `pixels_of`."""
        return self.psnr(decode(model, image_latents, recipe))

    def cut(self, pixels: Tensor) -> Tensor:
        """The part of pixels (1, 3, H, W) that shows the photo: all of them where the canvas isn't padded."""
        left, top, right, bottom = self.canvas.seen
        return pixels[..., top:bottom, left:right]


def find_subject(path: Path, model: Autoencoding, settings: Settings) -> Subject:
    """The photo on the model's canvas, encoded.

    Raises:
        InputError: the photo can't be used.
        UsageError: the model can't do with the size.
    """
    photo = load_photo(path)
    return lay_out(photo, canvas_for(photo, model, settings), model)


def lay_out(photo: Photo, canvas: Canvas, model: Autoencoding) -> Subject:
    """A photo on a canvas, encoded."""
    original = canvas.place(photo.rgb)
    pixels = to_tensor(original).to(model.device)
    encoded = model.encode(pixels)
    check_values(encoded, f"{model.name}: its vae's encoder", "use another with --vae")
    return Subject(photo, canvas, original, pixels, encoded)


def check_network(values: Tensor, model: Model, recipe: Recipe) -> None:
    """Raises ModelError where what the network led to isn't finite; only its advice depends on the recipe."""
    cure = "the checkpoint is damaged; fetch it again"
    if model.dtype != torch.float32:
        cure = "use --dtype float32"
    elif recipe.guidance_scale > model.no_guidance:
        cure = "lower the guidance scale, or fetch the checkpoint again"
    part = "unet" if hasattr(model.pipeline, "unet") else "transformer"
    check_values(values, f"{model.name}: its {part}", cure)


def canvas_for(photo: Photo, model: Autoencoding, settings: Settings) -> Canvas:
    """The canvas that the settings ask for. Raises UsageError where the model can't do with the size."""
    size = settings.exact_size or int(settings.size)
    return plan_canvas(photo.rgb.size, size, settings.fit, model.multiple)


@torch.no_grad()
def decode(model: Autoencoding, image_latents: Tensor, recipe: Recipe | None = None) -> Image:
    """The 8-bit picture of image latents, (1, C, h, w); see `pixels_of`."""
    return to_image(pixels_of(model, image_latents, recipe))


def pixels_of(model: Autoencoding, image_latents: Tensor, recipe: Recipe | None = None) -> Tensor:
    """What image latents (B, C, h, w) decode to, (B, 3, H, W), not yet clamped to [-1, 1].

    Args:
        recipe: that the model's network was led by to these latents, where it made them.

    Raises:
        ModelError: latents or pixels aren't finite; the text names the part that made them.
    """
    if recipe is not None:
        check_network(image_latents, cast("Model", model), recipe)
    pixels = model.decode(image_latents)
    check_values(pixels, f"{model.name}: its vae's decoder", "use another with --vae")
    return pixels
