"""Cut-outs on plain grounds: photos whose object and background are known to the pixel."""

import colorsys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from invrecon.errors import InputError, UsageError
from invrecon.image import load_photo

SHARE = 0.7  # of the square's side that the cut-out may fill
RING = 8  # pixels around an object where a halo is looked for
GREY = 0.1  # saturation below which a colour has no meaningful hue

# Name: hues that go by it, from and to in degrees on the circle; then hue, saturation and value of the ground
COLOURS: dict[str, tuple[tuple[float, float], tuple[float, float, float]]] = {
    "red": ((345, 16), (0, 0.85, 0.85)),
    "orange": ((16, 42), (28, 0.9, 0.95)),
    "yellow": ((42, 68), (55, 0.8, 0.95)),
    "green": ((68, 165), (118, 0.75, 0.65)),
    "blue": ((165, 255), (218, 0.8, 0.85)),
    "purple": ((255, 310), (278, 0.75, 0.6)),
}


@dataclass(frozen=True)
class Composite:
    """A cut-out on a ground.

    Args:
        picture: mode RGB.
        object, background: where these are for certain, mode L, 0 or 255.
    """

    name: str
    picture: Image.Image
    object: Image.Image
    background: Image.Image

    @property
    def ring(self) -> Image.Image:
        """The background's pixels at most `RING` from the object's, mode L."""
        near = self.object.filter(ImageFilter.MaxFilter(2 * RING + 1))
        return ImageChops.darker(near, self.background)


def compose(path: Path, name: str, colour: str, size: int) -> Composite:
    """A picture with transparency, in the middle of a square of one colour.

    Raises:
        InputError: it can't be read, or is opaque.
    """
    photo = load_photo(path)
    if photo.alpha is None:
        raise InputError(f"{path}: is opaque; a cut-out needs transparency")
    cutout = photo.rgb.copy()
    cutout.putalpha(photo.alpha)
    cutout = cutout.crop(photo.alpha.getbbox())
    scale = SHARE * size / max(cutout.size)
    cutout = cutout.resize(
        (max(1, round(cutout.width * scale)), max(1, round(cutout.height * scale))), Image.Resampling.LANCZOS
    )
    hue, saturation, value = COLOURS[colour][1]
    rgb = tuple(round(255 * channel) for channel in colorsys.hsv_to_rgb(hue / 360, saturation, value))
    picture, alpha = Image.new("RGB", (size, size), rgb), Image.new("L", (size, size))
    place = ((size - cutout.width) // 2, (size - cutout.height) // 2)
    picture.paste(cutout, place, cutout)
    alpha.paste(cutout.getchannel("A"), place)
    return Composite(
        name, picture, alpha.point(lambda a: 255 * (a > 250)), alpha.point(lambda a: 255 * (a < 5))
    )


def check_colours(*names: str) -> None:
    """Raises UsageError where a colour isn't known."""
    for name in names:
        if name not in COLOURS:
            raise UsageError(f"no colour {name!r}: known are {', '.join(COLOURS)}")


def mean_hue(picture: Image.Image, where: Image.Image) -> tuple[float, float]:
    """Hue in degrees and saturation in [0, 1] of the mean colour inside a mask."""
    mean = np.asarray(picture.convert("RGB"), np.float64)[np.asarray(where) > 127].mean(0) / 255
    hue, saturation, _ = colorsys.rgb_to_hsv(*mean.tolist())
    return 360 * hue, saturation


def share_called(picture: Image.Image, where: Image.Image, colour: str) -> float:
    """The share of the pixels inside a mask whose hue goes by a colour's name; grey ones don't."""
    pixels = np.asarray(picture.convert("RGB").convert("HSV"), np.float64)[np.asarray(where) > 127] / 255
    called = [saturation >= GREY and is_called(360 * hue, colour) for hue, saturation, _ in pixels.tolist()]
    return sum(called) / max(1, len(called))


def is_called(hue: float, colour: str) -> bool:
    """Whether a hue in degrees goes by a colour's name."""
    low, high = COLOURS[colour][0]
    return low <= hue < high if low < high else hue >= low or hue < high
