"""The reversible way between a photo and the square that the model sees."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageChops

from invrecon.image.photo import Photo

Fit = Literal["crop", "pad", "stretch"]


@dataclass(frozen=True)
class Canvas:
    """The reversible way between a photo and the square that the model sees.

    Args:
        photo_size: (width, height) of the upright photo.
        size: the square's side, pixels.
        fit: how the photo is laid on the square.
        box: (left, top, right, bottom), pixels. For crop the part of the photo that the square shows, for pad
            the part of the square that the photo fills, for stretch the whole photo.
    """

    photo_size: tuple[int, int]
    size: int
    fit: Fit
    box: tuple[int, int, int, int]

    def place(self, rgb: Image.Image) -> Image.Image:
        """The photo (`photo_size`, RGB) as a square (`size` x `size`, RGB)."""
        if self.fit != "pad":
            square = (self.size, self.size)
            return rgb.resize(square, Image.Resampling.LANCZOS, box=self.box, reducing_gap=3.0)
        left, top, right, bottom = self.box
        small = rgb.resize((right - left, bottom - top), Image.Resampling.LANCZOS, reducing_gap=3.0)
        # The border repeats the edge's pixels: one of a single colour would be blurred into the photo.
        border = ((top, self.size - bottom), (left, self.size - right), (0, 0))
        return Image.fromarray(np.pad(np.asarray(small), border, mode="edge"))

    def restore(self, square: Image.Image, photo: Photo) -> Image.Image:
        """The square (`size` x `size`, RGB) at the size of `photo`: RGB, or RGBA where that has an alpha.

        crop pastes it into the photo, pad cuts the border off, stretch resizes.
        """
        if self.fit == "crop":
            left, top, right, bottom = self.box
            rgb = photo.rgb.copy()
            rgb.paste(square.resize((right - left, bottom - top), Image.Resampling.LANCZOS), (left, top))
        else:
            box = self.box if self.fit == "pad" else None
            rgb = square.resize(self.photo_size, Image.Resampling.LANCZOS, box=box)
        return rgb if photo.alpha is None else _lift_off_white(rgb, photo.alpha)


def plan_canvas(photo_size: tuple[int, int], size: int, fit: Fit) -> Canvas:
    """The canvas for a photo of `photo_size` (width, height) on a square of side `size`, centred."""
    width, height = photo_size
    if fit == "stretch":
        return Canvas(photo_size, size, fit, (0, 0, width, height))
    if fit == "crop":
        inner, outer = (min(photo_size), min(photo_size)), photo_size
    else:
        scale = size / max(photo_size)
        inner, outer = (max(1, round(width * scale)), max(1, round(height * scale))), (size, size)
    left, top = (outer[0] - inner[0]) // 2, (outer[1] - inner[1]) // 2
    return Canvas(photo_size, size, fit, (left, top, left + inner[0], top + inner[1]))


def _lift_off_white(rgb: Image.Image, alpha: Image.Image) -> Image.Image:
    """The RGBA image that gives `rgb` when laid on white.

    Laid on white, colour c of opacity a shows as s = 1 - a (1 - c), so that 1 - c = (1 - s) / a: the negative
    of `rgb` is premultiplied by a, which Pillow calls RGBa.
    """
    negative = Image.merge("RGBa", (*ImageChops.invert(rgb).split(), alpha)).convert("RGBA").convert("RGB")
    lifted = ImageChops.invert(negative)
    lifted.putalpha(alpha)
    return lifted
