"""Objects with transparency, and the same objects in other colours."""

import colorsys
import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from invrecon.training.data import CUTOUT_SIDE

# name: (hue range in degrees, saturation range, value range)
COLOURS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "red": ((-10, 10), (0.75, 1.0), (0.6, 1.0)),
    "orange": ((20, 36), (0.8, 1.0), (0.85, 1.0)),
    "yellow": ((48, 62), (0.6, 1.0), (0.85, 1.0)),
    "green": ((90, 145), (0.5, 1.0), (0.35, 0.9)),
    "blue": ((200, 235), (0.55, 1.0), (0.5, 1.0)),
    "purple": ((265, 290), (0.5, 1.0), (0.4, 0.8)),
    "pink": ((315, 345), (0.25, 0.6), (0.9, 1.0)),
    "brown": ((18, 32), (0.5, 0.8), (0.3, 0.55)),
    "white": ((0, 360), (0.0, 0.03), (0.96, 1.0)),
    "grey": ((0, 360), (0.0, 0.06), (0.35, 0.7)),
    "black": ((0, 360), (0.0, 0.3), (0.0, 0.08)),
}
PAINTS = ("red", "orange", "yellow", "green", "blue", "purple", "pink")
"""Colours that objects are painted in, by turning their hue."""


def colour_name(rgb: tuple[float, float, float]) -> str:
    """Names a colour, three values in [0, 1]."""
    hue, saturation, value = colorsys.rgb_to_hsv(*rgb)
    hue *= 360
    if value < 0.18:
        return "black"
    if saturation < 0.18:
        return "white" if value > 0.8 else "grey"
    if (hue < 45 or hue > 345) and value < 0.62 and saturation < 0.85:
        return "brown"
    if hue > 310 and value > 0.75 and saturation < 0.6:
        return "pink"
    edges = (
        (16, "red"),
        (42, "orange"),
        (68, "yellow"),
        (165, "green"),
        (255, "blue"),
        (310, "purple"),
        (361, "red"),
    )
    return next(name for edge, name in edges if hue <= edge)


@dataclass(frozen=True, eq=False)
class Cutout:
    """An object in one colour.

    Attributes:
        noun: what it is.
        colour: the name of its median colour.
        picture: RGBA, uint8 (4, S, S).
        extent: width and height of the object, in units of S.
    """

    noun: str
    colour: str
    picture: Tensor
    extent: tuple[float, float]


def _median(rgb: Tensor, alpha: Tensor) -> tuple[float, float, float]:
    """The median colour of opaque pixels: rgb (3, H, W) and alpha (H, W) in [0, 1]."""
    opaque = rgb[:, alpha > 0.78]
    red, green, blue = (opaque if opaque.shape[1] else rgb.flatten(1)).median(dim=1).values.tolist()
    return red, green, blue


def cutout(picture: Tensor, noun: str) -> Cutout:
    """Centres an RGBA picture on a transparent square of CUTOUT_SIDE."""
    _, height, width = picture.shape
    top, left = (CUTOUT_SIDE - height) // 2, (CUTOUT_SIDE - width) // 2
    margins = (left, CUTOUT_SIDE - width - left, top, CUTOUT_SIDE - height - top)
    colour = colour_name(_median(picture[:3].float() / 255, picture[3].float() / 255))
    noun = " ".join(word for word in noun.split() if word not in COLOURS) or noun
    return Cutout(noun, colour, F.pad(picture, margins), (width / CUTOUT_SIDE, height / CUTOUT_SIDE))


def painted(own: Cutout, colour: str) -> Cutout:
    """The object with its hues turned so that its median becomes that of `colour`."""
    rgb, alpha = own.picture[:3].float() / 255, own.picture[3:].float() / 255
    hue, saturation, value = colorsys.rgb_to_hsv(*_median(rgb, alpha[0]))
    (h0, h1), (s0, s1), (v0, v1) = COLOURS[colour]
    hsv = to_hsv(rgb)
    hsv[0] = (hsv[0] + (h0 + h1) / 720 - hue) % 1
    hsv[1] = (hsv[1] * (s0 + s1) / 2 / max(saturation, 0.2)).clamp(0, 1)
    hsv[2] = hsv[2] ** (math.log((v0 + v1) / 2) / math.log(min(max(value, 0.05), 0.95)))
    turned = to_rgb(hsv)
    picture = torch.cat([turned, alpha]).mul(255).round().clamp(0, 255).to(torch.uint8)
    return replace(own, colour=colour_name(_median(turned, alpha[0])), picture=picture)


def to_hsv(rgb: Tensor) -> Tensor:
    """(3, H, W) in [0, 1], hue in turns."""
    red, green, blue = rgb
    value, low = rgb.amax(0), rgb.amin(0)
    chroma = value - low
    turn = chroma.clamp(min=1e-6)
    hue = torch.where(
        value == red,
        ((green - blue) / turn) % 6,
        torch.where(value == green, (blue - red) / turn + 2, (red - green) / turn + 4),
    )
    return torch.stack([hue / 6, chroma / value.clamp(min=1e-6), value])


def to_rgb(hsv: Tensor) -> Tensor:
    """The inverse of `to_hsv`."""
    hue, saturation, value = hsv
    k = (torch.tensor([5.0, 3.0, 1.0], device=hsv.device)[:, None, None] + 6 * hue) % 6
    return value * (1 - saturation * torch.minimum(k, 4 - k).clamp(0, 1))
