"""ICC profiles for what files say of their colours in other ways."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from invrecon.errors import InputError

Chromaticities = Sequence[float]
"""x and y of white, red, green and blue, in this order: 8 numbers (CIE 1931)."""

_D65 = (0.3127, 0.329)
_SRGB = (*_D65, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
_ADOBE_RGB = (*_D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)

# ITU-T H.273, ColourPrimaries
_PRIMARIES = {
    1: _SRGB,
    5: (*_D65, 0.64, 0.33, 0.29, 0.6, 0.15, 0.06),
    6: (*_D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    7: (*_D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    9: (*_D65, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    12: (*_D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
# ITU-T H.273, TransferCharacteristics: the exponent that gives linear light. Others are taken for sRGB's.
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}
_HDR = {16: "PQ", 18: "HLG"}

_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def find_profile(image: Image.Image) -> bytes | None:
    """The ICC profile that an opened image's colours are to be read by, None for sRGB.

    The first of these that the file has: an ICC profile, CICP of a HEIF or AVIF ("nclx"), the mark for Adobe
    RGB in a JPEG's EXIF (DCF's "R03").

    Raises:
        InputError: the colours are HDR's, PQ or HLG.
    """
    if icc := image.info.get("icc_profile"):
        return bytes(icc)
    if nclx := image.info.get("nclx_profile"):
        return profile_of_cicp(nclx["color_primaries"], nclx["transfer_characteristics"])
    if image.format in ("JPEG", "MPO") and _is_adobe_rgb(image):
        return make_profile(_ADOBE_RGB, 563 / 256)
    return None


def profile_of_cicp(primaries: int, transfer: int) -> bytes | None:
    """The profile for the numbers of ITU-T H.273, None for sRGB.

    Video's curve (BT.709) is taken for sRGB's, as viewers do.

    Raises:
        InputError: the colours are HDR's, PQ or HLG.
    """
    if transfer in _HDR:
        raise InputError(f"has HDR colours ({_HDR[transfer]}); export it as SDR, such as a JPEG, first")
    chromaticities, gamma = _PRIMARIES.get(primaries, _SRGB), _GAMMAS.get(transfer)
    return None if chromaticities == _SRGB and gamma is None else make_profile(chromaticities, gamma)


def profile_of_gamma(gamma: float | None, chromaticities: Chromaticities | None) -> bytes | None:
    """The profile for PNG's gAMA (the exponent; 1 / 2.2 stands for sRGB's curve) and cHRM, None for sRGB."""
    exponent = None if not gamma or abs(gamma - 1 / 2.2) < 1e-3 else 1 / gamma
    if chromaticities is None or np.allclose(chromaticities, _SRGB, atol=1e-3):
        chromaticities = _SRGB
    return None if chromaticities == _SRGB and exponent is None else make_profile(chromaticities, exponent)


def _is_adobe_rgb(image: Image.Image) -> bool:
    try:
        return str(image.getexif().get_ifd(ExifTags.IFD.Interop).get(1)).startswith("R03")
    except Exception:  # a damaged EXIF block can raise anything, yet the pixels are sound
        return False


def make_profile(chromaticities: Chromaticities, gamma: float | None) -> bytes | None:
    """An RGB profile: linear light is value ** gamma, or sRGB's curve where `gamma` is None.

    None where the chromaticities are no colours or span no triangle, or gamma is out of range (0.1 to 10).

    Source: ICC.1:2010, and Bradford's adaptation to D50.
    """
    if gamma is not None and not 0.1 <= gamma <= 10:
        return None
    try:
        primaries = _to_d50(chromaticities)
    except (ValueError, ZeroDivisionError, np.linalg.LinAlgError):
        return None
    if gamma is None:
        curve = _parametric(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    else:
        curve = _parametric(0, gamma)
    tags: dict[bytes, bytes] = {b"wtpt": _xyz(_D50)}
    for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries.T, strict=True):
        tags[name] = _xyz(column)
    return _icc(tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


def _icc(tags: dict[bytes, bytes]) -> bytes:
    """A display profile of version 4.2."""
    offset = 128 + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += name + struct.pack(">II", offset + len(data), len(value))
        data += value
    body = table + data
    head = struct.pack(">I4sI4s4s4s", 128 + len(body), b"\0" * 4, 0x04200000, b"mntr", b"RGB ", b"XYZ ")
    return head.ljust(36, b"\0") + b"acsp".ljust(32, b"\0") + _fixed(*_D50).ljust(60, b"\0") + body


def _to_d50(chromaticities: Chromaticities) -> np.ndarray:
    """XYZ of red, green and blue as columns, white at D50."""
    points = np.reshape(chromaticities, (4, 2))
    if points.min() < 0 or points.sum(1).max() > 1:
        raise ValueError
    white, *colours = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in points.tolist())
    basis = np.stack(colours, 1)
    cones = _BRADFORD @ white
    adaptation = np.linalg.inv(_BRADFORD) @ np.diag((_BRADFORD @ _D50) / cones) @ _BRADFORD
    primaries = adaptation @ basis @ np.diag(np.linalg.solve(basis, white))
    if not np.isfinite(primaries).all() or np.abs(primaries).max() > 100:
        raise ValueError
    return primaries


def _fixed(*values: Any) -> bytes:
    return struct.pack(f">{len(values)}i", *(math.floor(value * 65536 + 0.5) for value in values))


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(*values)


def _parametric(kind: int, *values: float) -> bytes:
    return b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + _fixed(*values)
