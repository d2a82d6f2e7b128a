"""PNG files without the chunks that a photo doesn't need. Pillow takes a large text or profile for damage."""

import struct
import zlib
from io import BytesIO
from typing import BinaryIO

from PIL import Image

from invrecon.errors import InputError
from invrecon.formats import PNG_SIGNATURE
from invrecon.image.profiles import profile_of_cicp, profile_of_gamma

_KEPT = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"eXIf")
_READ_HERE = (b"iCCP", b"cICP", b"sRGB", b"gAMA", b"cHRM", b"acTL")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_ORIENTATIONS = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")  # texts that can hold one
_MAX_TEXT = 2**16
_MAX_PROFILE = 2**26
_MAX_PIXELS = 2**30  # bytes; 100 megapixels of 4 x 16 bits take 0.8 GB where they don't compress at all


def open_png(file: BinaryIO) -> tuple[Image.Image, bool]:
    """Opens a PNG file at its still picture; also tells whether it is animated.

    The profile that its colours are to be read by goes to `info["icc_profile"]`.
    """
    kept, others = _split(file)
    image = Image.open(kept, formats=["PNG"])
    image.info["icc_profile"] = _profile(others)
    return image, int.from_bytes(others.get(b"acTL", b"")[:4], "big") > 1


def _profile(chunks: dict[bytes, bytes]) -> bytes | None:
    """The first of CICP, an ICC profile, sRGB, and gAMA with cHRM; as browsers do."""
    if len(cicp := chunks.get(b"cICP", b"")) == 4:
        return profile_of_cicp(cicp[0], cicp[1])
    if icc := _inflate(chunks.get(b"iCCP", b"").partition(b"\0")[2][1:], _MAX_PROFILE):
        return icc
    if b"sRGB" in chunks:
        return None
    (gamma,) = _numbers(chunks.get(b"gAMA"), 1) or (None,)
    return profile_of_gamma(gamma, _numbers(chunks.get(b"cHRM"), 8))


def _numbers(data: bytes | None, count: int) -> list[float] | None:
    if data is None or len(data) != 4 * count:
        return None
    return [number / 100000 for number in struct.unpack(f">{count}I", data)]


def _split(file: BinaryIO) -> tuple[BytesIO, dict[bytes, bytes]]:
    """The file of the chunks that Pillow is to read, and the data of the others that matter."""
    file.seek(len(PNG_SIGNATURE))
    kept, others = BytesIO(), dict[bytes, bytes]()
    kept.write(PNG_SIGNATURE)
    while len(start := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        if kind in _READ_HERE and length <= _MAX_PROFILE:
            data, check = file.read(length), file.read(4)
            if check == struct.pack(">I", zlib.crc32(kind + data)):
                others.setdefault(kind, data)
        elif kind in _KEPT or (kind in _TEXTS and length <= _MAX_TEXT):
            if kept.tell() + length > _MAX_PIXELS:
                raise InputError("is larger than 1 GiB; scale the picture down first")
            chunk = file.read(length + 4)
            if kind in _KEPT or _is_orientation(kind, chunk[:-4]):
                kept.write(start + chunk)
        else:
            file.seek(length + 4, 1)
        if kind == b"IEND":
            break
    kept.seek(0)
    return kept, others


def _is_orientation(kind: bytes, data: bytes) -> bool:
    if not data.startswith(_ORIENTATIONS):
        return False
    return kind == b"tEXt" or (
        kind == b"zTXt" and _inflate(data.partition(b"\0")[2][1:], _MAX_TEXT) is not None
    )


def _inflate(data: bytes, limit: int) -> bytes | None:
    """None where the data are damaged or longer than `limit`, bytes."""
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(data, limit)
    except zlib.error:
        return None
    return inflated if stream.eof else None
