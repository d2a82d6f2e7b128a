"""Files of every format, opened at the picture that is the photo: no preview, thumbnail or later page.

- An animation (GIF, WebP, PNG, AVIF): the first frame, and a note says so.
- A HEIF collection, such as a burst: the one that the file calls its main one, and a note says so.
- A TIFF file: the page that isn't a preview or thumbnail; one of several pages is refused.
- MPO: the first picture. The others are views from beside it, or thumbnails.
- Gain maps (Ultra HDR, Apple, ISO 21496-1) aren't applied: the picture is the SDR one that they belong to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from PIL import Image

from invrecon.errors import InputError
from invrecon.image.boxes import profile_of_jp2
from invrecon.image.jxl import CODESTREAM, CONTAINER, check_jxl, decode_jxl
from invrecon.image.kinds import AVIF_BRANDS, HEAD_BYTES, HEIF_BRANDS, brands, refuse_other_kinds
from invrecon.image.png import open_png
from invrecon.image.profiles import find_profile
from invrecon.image.tiff import open_tiff

MAX_MEGAPIXELS = 100

# Plain raster formats only: Pillow's others start programs (EPS) or are too rarely used to be well tested.
_FORMATS = ("JPEG", "MPO", "WEBP", "BMP", "DIB", "GIF", "PPM", "JPEG2000", "AVIF", "TGA")
_JP2 = b"\0\0\0\x0cjP  "


@dataclass(frozen=True)
class Header:
    """What is known of a picture before it is decoded.

    Args:
        size: (width, height), pixels; not yet turned upright.
        decode: gives the picture; the profile that its colours are to be read by is in `info["icc_profile"]`.
        note: what else the file holds, a phrase, or None.
    """

    size: tuple[int, int]
    decode: Callable[[], Image.Image]
    note: str | None = None


def read_header(file: BinaryIO) -> Header:
    """Looks at the picture in a file without decoding it. What a damaged file makes it raise can be anything.

    Raises:
        InputError: the file holds no finished picture, or one of a kind that is refused.
        DecompressionBombError: it has too many pixels.
    """
    head = file.read(HEAD_BYTES)
    refuse_other_kinds(head)
    header = _read(file, head)
    if min(header.size) < 1:
        raise InputError("has no pixels; save it again in an image editor")
    if header.size[0] * header.size[1] > MAX_MEGAPIXELS * 1_000_000:
        raise Image.DecompressionBombError
    return header


def _read(file: BinaryIO, head: bytes) -> Header:
    file.seek(0)
    if head.startswith((CODESTREAM, CONTAINER)):
        return Header(check_jxl(file), lambda: decode_jxl(file))
    if head.startswith(b"\x89PNG"):
        image, animated = open_png(file)
        return _header(image, "is an animation, of which the still picture is used" if animated else None)
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return _header(open_tiff(file, head))
    if AVIF_BRANDS & brands(head):
        return _header(_open_avif(file))
    if HEIF_BRANDS & brands(head):
        return _header(_open_heif(file))
    return _header(_open_common(file, head))


def _header(image: Image.Image, note: str | None = None) -> Header:
    image.info["icc_profile"] = find_profile(image)

    def decode() -> Image.Image:
        image.load()
        return _without_unused_alpha(image)

    return Header(image.size, decode, note or _note(image))


def _open_common(file: BinaryIO, head: bytes) -> Image.Image:
    Image.init()
    icc = profile_of_jp2(file) if head.startswith(_JP2) else None
    file.seek(0)
    image = Image.open(file, formats=[name for name in _FORMATS if name in Image.OPEN])
    if icc:
        image.info["icc_profile"] = icc
    return image


def _without_unused_alpha(image: Image.Image) -> Image.Image:
    """In these formats a pixel's fourth byte often isn't used, whatever the header says, and is always 0."""
    unused = (
        image.format in ("BMP", "DIB", "TGA")
        and image.mode == "RGBA"
        and image.getchannel("A").getextrema() == (0, 0)
    )
    return image.convert("RGB") if unused else image


def _note(image: Any) -> str | None:
    if image.format == "HEIF" and image.n_frames > 1:
        return f"holds {image.n_frames} pictures, of which the main one is used"
    try:
        animated = image.format in ("GIF", "WEBP", "AVIF") and image.is_animated
    except Exception:  # damaged after the first frame
        animated = True
    return "is an animation, of which the first frame is used" if animated else None


def _open_avif(file: BinaryIO) -> Image.Image:
    """Pillow reads the picture, libheif what the file says of its colours, which Pillow leaves out."""
    Image.init()
    image = Image.open(file, formats=["AVIF"] if "AVIF" in Image.OPEN else [])
    if "icc_profile" not in image.info:
        try:
            file.seek(0)
            image.info["nclx_profile"] = _open_heif(file).info.get("nclx_profile")
        except (InputError, SyntaxError):
            pass
    return image


def _open_heif(file: BinaryIO) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise InputError("is a HEIC or HEIF file; pip install pillow-heif to read it") from error
    return HeifImageFile(file)
