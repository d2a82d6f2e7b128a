"""The reversible way between a photo and the picture that the model sees."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageChops

from invrecon.errors import UsageError
from invrecon.image.photo import Photo

Fit = Literal["whole", "crop", "pad", "stretch"]
Size = tuple[int, int]
"""(width, height), pixels."""

MAX_STRETCH = 0.03  # of one side against the other, beyond which a whole photo is padded
MIN_SIDE, MAX_SIDE = 64, 2048


@dataclass(frozen=True)
class Canvas:
    """The reversible way between a photo and the picture that the model sees.

    Args:
        photo_size: of the upright photo.
        size: of the picture.
        fit: "crop", "pad" or "stretch": how the photo is laid on it.
        box: (left, top, right, bottom), pixels. For crop the part of the photo that the picture shows, for
            pad the part of the picture that the photo fills, for stretch the whole photo.
    """

    photo_size: Size
    size: Size
    fit: Literal["crop", "pad", "stretch"]
    box: tuple[int, int, int, int]

    @property
    def seen(self) -> tuple[int, int, int, int]:
        """The part of the picture that shows the photo, (left, top, right, bottom), pixels."""
        return self.box if self.fit == "pad" else (0, 0, *self.size)

    def place(self, rgb: Image.Image) -> Image.Image:
        """The photo (`photo_size`, RGB) as the model sees it (`size`, RGB)."""
        if self.fit != "pad":
            return rgb.resize(self.size, Image.Resampling.LANCZOS, box=self.box, reducing_gap=3.0)
        (width, height), (left, top, right, bottom) = self.size, self.box
        small = rgb.resize((right - left, bottom - top), Image.Resampling.LANCZOS, reducing_gap=3.0)
        # The border repeats the edge's pixels: one of a single colour would be blurred into the photo.
        border = ((top, height - bottom), (left, width - right), (0, 0))
        return Image.fromarray(np.pad(np.asarray(small), border, mode="edge"))

    def shown(self, rgb: Image.Image) -> Image.Image:
        """The part of the photo (`photo_size`) that the picture shows, at the photo's own resolution."""
        return rgb.crop(self.box) if self.fit == "crop" else rgb

    def enlarge(self, picture: Image.Image) -> Image.Image:
        """The picture (`size`, RGB) at the size of `shown`, by Lanczos. No pixel is the photo's own."""
        left, top, right, bottom = self.box
        size = (right - left, bottom - top) if self.fit == "crop" else self.photo_size
        return picture.resize(size, Image.Resampling.LANCZOS, box=self.seen)

    def restore(self, picture: Image.Image, photo: Photo, mask: Image.Image | None = None) -> Image.Image:
        """`enlarge`, transparent where the photo is: RGB, or RGBA where it has an alpha.

        Args:
            mask: mode L, of `size`; where it is black, the photo's own pixels stand.
        """
        rgb = self.enlarge(picture)
        if mask:
            rgb = Image.composite(rgb, self.shown(photo.rgb), self.enlarge(mask))
        return rgb if photo.alpha is None else _lift_off_white(rgb, self.shown(photo.alpha))


def plan_canvas(photo_size: Size, size: int | Size, fit: Fit, multiple: int = 8) -> Canvas:
    """The canvas for a photo, which is centred on it.

    Args:
        size: (width, height), or a side N: then "whole" takes the shape nearest to the photo's with an area
            of about N², and the others a square.
        multiple: what the sides must be multiples of, pixels.

    Raises:
        UsageError: the sides are no such multiples.
    """
    if fit == "whole":
        picture = best_size(photo_size, size, multiple) if isinstance(size, int) else size
        fit = "stretch" if _stretch(photo_size, picture) <= MAX_STRETCH else "pad"
    else:
        picture = (size, size) if isinstance(size, int) else size
    if picture[0] % multiple or picture[1] % multiple:
        raise UsageError(
            f"size must have sides that are multiples of {multiple} for this model, "
            f"not {picture[0]}x{picture[1]}"
        )
    if fit == "stretch":
        return Canvas(photo_size, picture, fit, (0, 0, *photo_size))
    inner, outer = (picture, photo_size) if fit == "crop" else (photo_size, picture)
    width, height = _fitted(inner, outer)
    left, top = (outer[0] - width) // 2, (outer[1] - height) // 2
    return Canvas(photo_size, picture, fit, (left, top, left + width, top + height))


def best_size(photo_size: Size, side: int, multiple: int = 8) -> Size:
    """The size with sides from 64 to 2048, multiples of `multiple`, and an area of about side², that distorts
    a photo least.

    The area is within a tenth of side² where the stretch is small enough then, else within a quarter.
    """
    sides = range(math.ceil(MIN_SIDE / multiple) * multiple, MAX_SIDE + 1, multiple)
    sizes = [(w, h) for w in sides for h in sides if 0.75 <= w * h / side**2 <= 1.25]

    def area_error(size: Size) -> float:
        return abs(size[0] * size[1] / side**2 - 1)

    def cost(size: Size) -> tuple[bool, float, float]:
        stretch = _stretch(photo_size, size)
        return area_error(size) > 0.1 or stretch > MAX_STRETCH, stretch, area_error(size)

    return min(sizes, key=cost)


def _stretch(photo_size: Size, size: Size) -> float:
    """By what part one side is stretched more than the other."""
    ratio = photo_size[0] * size[1] / (photo_size[1] * size[0])
    return max(ratio, 1 / ratio) - 1


def _fitted(inner: Size, outer: Size) -> Size:
    """The largest size of the shape of `inner` that fits into `outer`, at least a pixel wide and high."""
    scale = min(outer[0] / inner[0], outer[1] / inner[1])
    return max(1, round(inner[0] * scale)), max(1, round(inner[1] * scale))


def _lift_off_white(rgb: Image.Image, alpha: Image.Image) -> Image.Image:
    """The RGBA image that gives `rgb` when laid on white.

    Laid on white, colour c of opacity a shows as s = 1 - a (1 - c), so that 1 - c = (1 - s) / a: the negative
    of `rgb` is premultiplied by a, which Pillow calls RGBa.
    """
    negative = Image.merge("RGBa", (*ImageChops.invert(rgb).split(), alpha)).convert("RGBA").convert("RGB")
    lifted = ImageChops.invert(negative)
    lifted.putalpha(alpha)
    return lifted
