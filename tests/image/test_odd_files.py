"""Files that are odd, but whole: they are read, and read right."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from invrecon.image import is_photo_file
from tests.image.files import (
    chunk,
    distance,
    encoded,
    load,
    picture,
    png,
    swapped_profile,
)


def workflow(length, *, compressed, kind=b"tEXt"):
    info = PngInfo()
    text = "x" * length
    if kind == b"tEXt":
        info.add_text("workflow", text, zip=compressed)
    else:
        info.add_itxt("workflow", text, zip=compressed)
    return encoded(picture(), "PNG", pnginfo=info)


@pytest.mark.parametrize("kind", [b"tEXt", b"iTXt"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("length", [1000, 3_000_000])
def test_a_png_s_large_text_is_no_damage(tmp_path, length, compressed, kind):
    """Programs that generate pictures keep whole graphs of nodes there."""
    photo = load(tmp_path, workflow(length, compressed=compressed, kind=kind))
    assert distance(photo.rgb, picture()) == 0
    assert is_photo_file(tmp_path / "photo")


def test_a_png_s_many_texts_are_no_damage(tmp_path):
    """More than 64 MiB in all, packed in very little."""
    text = chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(1_000_000)))
    data = png((1, 1), 8, 2, [b"abc"], *[text] * 70)
    assert load(tmp_path, data).rgb.getpixel((0, 0)) == tuple(b"abc")


@pytest.mark.parametrize(
    "kind", [b"tEXt", b"zTXt", b"tIME", b"sPLT", b"bKGD", b"vpAg", b"iCCP", b"eXIf", b"pHYs"]
)
@pytest.mark.parametrize("data", [b"", b"\0", b"rubbish\0\0rubbish", b"\xff" * 70_000])
def test_a_png_s_broken_extras_are_no_matter(tmp_path, kind, data):
    wrong_sum = chunk(kind, data)[:-1] + b"?"
    for extra in (chunk(kind, data), wrong_sum) if kind != b"eXIf" else (chunk(kind, data),):
        photo = load(tmp_path, png((1, 1), 8, 2, [b"abc"], extra))
        assert photo.rgb.getpixel((0, 0)) == tuple(b"abc")


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_huge_profile_is_applied(tmp_path, file_format):
    """Two million bytes more than the profile needs, as scanners' tables take."""
    icc = swapped_profile() + os.urandom(2_000_000)
    red, green, blue = load(tmp_path, encoded(picture(), file_format)).rgb.split()
    photo = load(tmp_path, encoded(picture(), file_format, icc_profile=icc))
    assert distance(photo.rgb, Image.merge("RGB", (blue, green, red))) <= 3


def test_orientation_in_a_png_s_text(tmp_path):
    """ImageMagick puts EXIF there, in hexadecimal."""
    exif = Image.Exif()
    exif[0x0112] = 6
    block = exif.tobytes()
    text = b"\nexif\n%8d\n" % len(block) + block.hex().encode() + b"\n"
    for extra in (
        chunk(b"tEXt", b"Raw profile type exif\0" + text),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)),
    ):
        assert load(tmp_path, png((2, 1), 8, 0, [b"\1\2"], extra)).rgb.size == (1, 2)


def test_16_bit_colour_with_alpha(tmp_path):
    row = struct.pack(">8H", 257 * 200, 0, 65535, 65535, 257 * 10, 257 * 20, 257 * 30, 0)
    photo = load(tmp_path, png((2, 1), 16, 6, [row]))
    assert [photo.rgb.getpixel((x, 0)) for x in (0, 1)] == [(200, 0, 255), (255, 255, 255)]
    assert [photo.alpha.getpixel((x, 0)) for x in (0, 1)] == [255, 0]


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_few_bits_with_a_palette_and_a_transparent_entry(tmp_path, depth):
    palette = chunk(b"PLTE", bytes([255, 0, 0, 0, 0, 255])) + chunk(b"tRNS", b"\0")
    row = {1: 0b01000000, 2: 0b00010000, 4: 0b00000001}[depth]
    photo = load(tmp_path, png((2, 1), depth, 3, [bytes([row])], palette))
    assert [photo.rgb.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (0, 0, 255)]
    assert [photo.alpha.getpixel((x, 0)) for x in (0, 1)] == [0, 255]


def bmp(alpha):
    """32 bits a pixel, of which the header says that 8 are alpha, as Windows writes screenshots."""
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    info = struct.pack("<IiiHHIIiiII", 124, 2, 1, 1, 32, 3, 8, 0, 0, 0, 0) + masks
    pixels = bytes([30, 20, 10, alpha, 30, 20, 10, 0])
    return b"BM" + struct.pack("<IHHI", 146, 0, 0, 138) + info.ljust(124, b"\0") + pixels


def tga(alpha):
    data = bytearray(encoded(Image.new("RGBA", (2, 1), (10, 20, 30, 0)), "TGA", compression=None))
    data[18 + 3] = alpha
    return bytes(data)


@pytest.mark.parametrize("make", [bmp, tga])
def test_a_fourth_byte_that_is_no_alpha(tmp_path, make):
    """Where it would hide all of the picture it isn't used."""
    photo = load(tmp_path, make(0))
    assert photo.alpha is None
    assert photo.rgb.getpixel((0, 0)) == photo.rgb.getpixel((1, 0)) == (10, 20, 30)
    photo = load(tmp_path, make(255))
    assert [photo.alpha.getpixel((x, 0)) for x in (0, 1)] == [255, 0]


def flat_cmyk(colour):
    return Image.new("CMYK", (16, 16), colour)


def test_adobe_s_inverted_inks(tmp_path):
    """A CMYK JPEG holds 255 less the ink."""
    data = encoded(flat_cmyk((200, 100, 50, 0)), "JPEG", quality=100, subsampling=0)
    assert b"Adobe" in data
    assert distance(load(tmp_path, data).rgb.getpixel((8, 8)), (55, 155, 205)) <= 2


def test_adobe_s_ycck(tmp_path):
    """The three inks as Y, Cb and Cr, and black inverted; the last byte of Adobe's marker is 2."""
    y, cb, cr = Image.new("RGB", (1, 1), (55, 135, 215)).convert("YCbCr").getpixel((0, 0))
    stored = flat_cmyk((255 - y, 255 - cb, 255 - cr, 0))  # Pillow inverts what it writes
    data = bytearray(encoded(stored, "JPEG", quality=100, subsampling=0))
    transform = data.index(b"Adobe") + 11
    assert data[transform] == 0
    data[transform] = 2
    assert distance(load(tmp_path, bytes(data)).rgb.getpixel((8, 8)), (200, 120, 40)) <= 3


@pytest.mark.parametrize(
    ("kind", "count", "value", "turned"),
    [
        (3, 1, b"\6\0\0\0", True),
        (4, 1, b"\6\0\0\0", True),
        (3, 1, bytes(4), False),
        (3, 1, b"\x09\0\0\0", False),
        (3, 1, b"\xff\xff\0\0", False),
        (2, 2, b"6\0\0\0", False),
        (5, 1, struct.pack("<I", 64), False),  # 0 / 0
        (7, 4, b"\6\0\0\0", False),
        (12, 1, struct.pack("<I", 2**31), False),
        (99, 1, b"\6\0\0\0", False),
        (3, 0, b"\6\0\0\0", False),
    ],
)
def test_orientations_of_every_type(tmp_path, kind, count, value, turned):
    exif = b"Exif\0\0II*\0\x08\0\0\0\1\0" + struct.pack("<HHI", 0x0112, kind, count) + value + bytes(99)
    photo = load(tmp_path, encoded(picture(), "JPEG", exif=exif))
    assert photo.rgb.size == ((30, 40) if turned else (40, 30))


@pytest.mark.parametrize("count", [2**31, 2**32 - 1])
def test_exif_that_claims_gigabytes(tmp_path, count):
    exif = b"Exif\0\0II*\0\x08\0\0\0\2\0" + struct.pack("<HHII", 0x010E, 2, count, 8)
    exif += struct.pack("<HHII", 0x0112, 3, 1, 6) + bytes(4)
    photo = load(tmp_path, encoded(picture(), "JPEG", exif=exif))
    assert photo.rgb.size in ((40, 30), (30, 40))


def test_a_damaged_picture_behind_the_photo_is_no_matter(tmp_path):
    """An animation's second frame that is cut off."""
    data = encoded(picture(), "GIF", save_all=True, append_images=[picture((40, 30)).rotate(90)])
    photo = load(tmp_path, data[:-200])
    assert np.abs(np.asarray(photo.rgb, int) - np.asarray(picture(), int)).mean() < 12
    assert photo.note is not None
