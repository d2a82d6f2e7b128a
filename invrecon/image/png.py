"""PNG files without the chunks that a photo doesn't need. Pillow takes a large text or profile for damage."""

import struct
import zlib
from io import BytesIO
from typing import BinaryIO

from PIL import Image

from invrecon.errors import InputError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEPT = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"eXIf")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_ORIENTATIONS = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")  # texts that can hold one
_MAX_TEXT = 2**16
_MAX_PROFILE = 2**26
_MAX_PIXELS = 2**30  # bytes; 100 megapixels of 4 x 16 bits take 0.8 GB where they don't compress at all


def open_png(file: BinaryIO) -> tuple[Image.Image, bool]:
    """Opens a PNG file at its still picture; also tells whether it is animated.

    Its CICP goes to `info["nclx_profile"]`, or, without that, its ICC profile to `info["icc_profile"]`.
    """
    kept, others = _split(file)
    image = Image.open(kept, formats=["PNG"])
    if len(cicp := others.get(b"cICP", b"")) == 4:
        image.info["nclx_profile"] = {"color_primaries": cicp[0], "transfer_characteristics": cicp[1]}
    elif icc := _inflate(others.get(b"iCCP", b"").partition(b"\0")[2][1:], _MAX_PROFILE):
        image.info["icc_profile"] = icc
    return image, int.from_bytes(others.get(b"acTL", b"")[:4], "big") > 1


def _split(file: BinaryIO) -> tuple[BytesIO, dict[bytes, bytes]]:
    """The file of the chunks that Pillow is to read, and the data of the others that matter."""
    file.seek(len(_SIGNATURE))
    kept, others = BytesIO(), dict[bytes, bytes]()
    kept.write(_SIGNATURE)
    while len(start := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        if kind in (b"iCCP", b"cICP", b"acTL") and length <= _MAX_PROFILE:
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
