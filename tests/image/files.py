"""Pictures, and files made of them by Pillow or by hand."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pillow_heif
from PIL import Image, ImageCms
from pillow_jxl import JpegXLImagePlugin  # noqa: F401  # lets Pillow write JPEG XL

from invrecon.image import Photo, load_photo

pillow_heif.register_heif_opener()  # lets Pillow write HEIF

SIZE = (40, 30)
EXACT = ("PNG", "TIFF", "BMP", "DIB", "TGA", "PPM", "JPEG2000")  # formats that keep RGB to the bit
LOSSY = ("JPEG", "MPO", "WEBP", "AVIF", "GIF", "HEIF", "JXL")


def picture(size=SIZE, mode="RGB"):
    """A smooth picture without any symmetry."""
    x, y = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    image = Image.fromarray((np.stack([x, y, 0.2 + 0.6 * x * y], -1) * 255).astype(np.uint8))
    if mode == "LAB":
        return ImageCms.profileToProfile(
            image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
    if mode == "I;16":
        return Image.fromarray((x * y * 65535).astype(np.uint16))
    return image.convert(mode)


def encoded(image, file_format, **options):
    file = BytesIO()
    if file_format in ("HEIF", "JXL") and "exif" in options:
        options["exif"] = options["exif"].tobytes()
    image.save(file, file_format, **options)
    return file.getvalue()


def load(folder, data, name="photo") -> Photo:
    path = folder / name
    path.write_bytes(data)
    return load_photo(path)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(size, depth, colour, rows, *extra):
    """A PNG file built by hand, for what Pillow can't write: `rows` are bytes without the filter bytes."""
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + b"".join(extra)
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


def srgb_of_light(light):
    """sRGB's curve: linear light to values, both 0 to 1."""
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)


def distance(a, b):
    return np.abs(np.asarray(a, int) - np.asarray(b, int)).max()


def check_message(error, name):
    text = str(error)
    assert name in text
    assert text.isprintable(), text
    assert len(text) < 800


def swapped_profile():
    """sRGB with the red and blue primaries exchanged: a sound profile whose effect is plain to see."""
    icc = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = icc.index(b"rXYZ"), icc.index(b"bXYZ")
    icc[red], icc[blue] = b"br"
    return bytes(icc)


def tiny_profile(space, tag, data):
    """A version 2 profile with one curve or table."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    offset = 128 + 4 + 24
    tags = (
        struct.pack(">I", 2)
        + b"wtpt"
        + struct.pack(">II", offset, 20)
        + tag
        + struct.pack(">II", offset + 20, len(data))
    )
    body = tags + white + data
    pcs = b"XYZ " if space == b"GRAY" else b"Lab "
    head = (
        struct.pack(">I4sI4s4s4s", 128 + len(body), b"lcms", 0x02100000, b"prtr", space, pcs).ljust(36, b"\0")
        + b"acsp"
    )
    return head.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061).ljust(60, b"\0") + body


def grey_profile():
    return tiny_profile(
        b"GRAY", b"kTRC", b"curv\0\0\0\0" + struct.pack(">IH", 1, 256) + b"\0\0"
    )  # linear light


def cmyk_profile():
    """Every ink shows as L* = 100 (1 - K): cyan, magenta and yellow count for nothing."""
    head = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    ramp = bytes(range(256))
    grid = b"".join(bytes([0 if n & 1 else 255, 128, 128]) for n in range(16))
    return tiny_profile(b"CMYK", b"A2B0", head + ramp * 4 + grid + ramp * 3)
