"""Formats, colour modes and alpha."""

import hashlib
import struct

import numpy as np
import PIL
import pytest
from PIL import Image

from invrecon.image.colour import to_srgb
from tests.image.files import EXACT, LOSSY, SIZE, distance, encoded, load, picture

needs_pillow_13 = pytest.mark.skipif(
    int(PIL.__version__.split(".")[0]) < 13, reason="Pillow 12 takes uncompressed YCbCr in TIFF for truncated"
)


@pytest.mark.parametrize("file_format", EXACT + LOSSY)
def test_formats(tmp_path, file_format):
    data = encoded(picture(), file_format)
    photo = load(tmp_path, data)
    assert (photo.rgb.mode, photo.rgb.size, photo.alpha) == ("RGB", SIZE, None)
    assert distance(photo.rgb, picture()) <= (0 if file_format in EXACT else 60)
    assert np.abs(np.asarray(photo.rgb, int) - np.asarray(picture(), int)).mean() < 12
    assert photo.sha256 == hashlib.sha256(data).hexdigest()
    assert photo.path == tmp_path / "photo"


@pytest.mark.parametrize(
    ("mode", "file_format"),
    [
        *[("1", name) for name in ("PNG", "TIFF", "BMP", "TGA", "PPM")],
        *[("L", name) for name in ("PNG", "TIFF", "BMP", "TGA", "PPM", "JPEG", "WEBP", "AVIF")],
        *[("P", name) for name in ("PNG", "TIFF", "BMP", "TGA", "GIF")],
        *[("CMYK", "TIFF"), ("CMYK", "JPEG"), ("LAB", "TIFF"), ("RGBX", "TIFF")],
        pytest.param("YCbCr", "TIFF", marks=needs_pillow_13),
    ],
)
def test_modes_without_alpha(tmp_path, mode, file_format):
    image = picture(mode=mode)
    photo = load(tmp_path, encoded(image, file_format))
    assert (photo.rgb.mode, photo.alpha) == ("RGB", None)
    assert distance(photo.rgb, image.convert("RGB")) <= (8 if file_format in ("JPEG", "WEBP", "AVIF") else 1)


@pytest.mark.parametrize(
    ("mode", "file_format"),
    [
        *[("RGBA", name) for name in ("PNG", "TIFF", "WEBP", "TGA", "AVIF")],
        *[("LA", name) for name in ("PNG", "TIFF", "WEBP", "TGA", "AVIF")],
        *[("PA", name) for name in ("TIFF", "WEBP", "AVIF")],
    ],
)
def test_alpha_is_kept_and_laid_on_white(tmp_path, mode, file_format):
    alpha = picture().getchannel("R")
    image = picture(mode={"RGBA": "RGB", "LA": "L", "PA": "P"}[mode]).convert(mode)
    image.putalpha(alpha)
    options = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}}.get(
        file_format, {}
    )
    photo = load(tmp_path, encoded(image, file_format, **options))
    white = Image.alpha_composite(Image.new("RGBA", SIZE, "white"), image.convert("RGBA")).convert("RGB")
    lossy = file_format == "AVIF"
    assert distance(photo.alpha, alpha) <= (3 if lossy else 0)
    assert distance(photo.rgb, white) <= (12 if lossy else 1)


@pytest.mark.parametrize("mode", ["HSV", "RGBa", "La", "I;16L", "I;16N", "I;16B"])
def test_modes_that_only_memory_holds(mode):
    if mode.startswith("I"):
        image = Image.frombytes(
            mode, (2, 1), np.array([0, 257 * 80], {"L": "<u2", "B": ">u2", "N": "=u2"}[mode[-1]]).tobytes()
        )
        expected = Image.fromarray(np.array([[0, 80]], np.uint8))
    else:
        image = picture().convert({"La": "LA", "RGBa": "RGBA"}.get(mode, "RGB")).convert(mode)
        expected = picture().convert("L" if mode == "La" else "RGB")
    rgb, alpha = to_srgb(image)
    assert (rgb.mode, alpha) == ("RGB", None)
    assert distance(rgb, expected.convert("RGB")) <= (8 if mode == "HSV" else 0)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_alpha_that_hides_nothing_is_none(tmp_path, mode):
    assert load(tmp_path, encoded(picture(mode=mode), "PNG")).alpha is None


def test_premultiplied_alpha(tmp_path):
    """TIFF's ExtraSamples 1: the file holds colour times alpha."""
    image = Image.new("RGBA", (2, 2), (100, 50, 25, 128))
    straight, premultiplied = (struct.pack("<HHIH", 338, 3, 1, kind) for kind in (2, 1))
    data = encoded(image, "TIFF")
    assert straight in data
    photo = load(tmp_path, data.replace(straight, premultiplied))
    assert photo.alpha.getextrema() == (128, 128)
    assert distance(photo.rgb.getpixel((0, 0)), (100 + 127, 50 + 127, 25 + 127)) <= 2


@pytest.mark.parametrize(
    ("mode", "pixels", "key"),
    [
        ("1", (255, 0), 1),
        ("L", (7, 9), 7),
        ("RGB", ((1, 2, 3), (4, 5, 6)), (1, 2, 3)),
        ("I;16", (7000, 7001), 7000),
    ],
)
def test_colour_key(tmp_path, mode, pixels, key):
    image = Image.new(mode, (2, 1))
    for x, pixel in enumerate(pixels):
        image.putpixel((x, 0), pixel)
    photo = load(tmp_path, encoded(image, "PNG", transparency=key))
    assert [photo.alpha.getpixel((x, 0)) for x in (0, 1)] == [0, 255]
    assert photo.rgb.getpixel((0, 0)) == (255, 255, 255)
    assert photo.rgb.getpixel((1, 0)) != (255, 255, 255)


@pytest.mark.parametrize(
    ("file_format", "transparency"), [("PNG", bytes([0, 128, 255])), ("PNG", 0), ("GIF", 0)]
)
def test_palette_transparency(tmp_path, file_format, transparency):
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    for x in range(3):
        image.putpixel((x, 0), x)
    photo = load(tmp_path, encoded(image, file_format, transparency=transparency))
    middle = 128 if isinstance(transparency, bytes) else 255
    assert [photo.alpha.getpixel((x, 0)) for x in range(3)] == [0, middle, 255]
    assert [photo.rgb.getpixel((x, 0)) for x in range(3)] == [
        (255, 255, 255),
        (255 - middle, 255, 255 - middle),
        (0, 0, 255),
    ]
