"""Grey of 16 or 32 bits to 8 bits. Pillow's own conversions clip it."""

import math
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image


def is_deep(image: Image.Image) -> bool:
    """Whether its values have more than 8 bits: modes I;16, I and F."""
    return image.mode[0] in "IF"


def eight_bits(image: Image.Image) -> Image.Image:
    """Grey of mode I;16, I or F in mode L.

    Black to white is 0 to 65535 in integers and 0 to 1 or 0 to 255 in floats; values outside of these are
    stretched from the least to the greatest. What is not finite turns black.
    """
    black, white = _range(image)
    gain = 255 / ((white - black) or 1)

    def scale(values: np.ndarray) -> np.ndarray:
        return np.where(np.isfinite(values), values - black, 0).clip(0, white - black) * gain

    return _map_strips(image, scale)


def opacity_of_key(image: Image.Image, key: float) -> Image.Image:
    """An alpha (mode L) that is 0 where the image has the value `key`, else 255."""
    return _map_strips(image, lambda values: np.where(values == key, 0, 255))


def _range(image: Image.Image) -> tuple[float, float]:
    if image.mode.startswith("I;16"):
        return 0, 65535
    low, high = math.inf, -math.inf
    for values in _strips(image):
        low = min(low, values.min(initial=low, where=np.isfinite(values)))
        high = max(high, values.max(initial=high, where=np.isfinite(values)))
    for white in (65535,) if image.mode == "I" else (1, 255):
        if low >= 0 and high <= white:
            return 0, white
    return low, high


def _strips(image: Image.Image) -> Iterator[np.ndarray]:
    """The values of a grey image, some rows at a time, so that no copy of the whole is made."""
    rows = max(1, 2**20 // image.width)
    for top in range(0, image.height, rows):
        yield np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))), np.float64)


def _map_strips(image: Image.Image, function: Callable[[np.ndarray], np.ndarray]) -> Image.Image:
    mapped, top = Image.new("L", image.size), 0
    for strip in _strips(image):
        mapped.paste(Image.fromarray(function(strip).round().astype(np.uint8)), (0, top))
        top += len(strip)
    return mapped
