"""EXIF orientation."""

import numpy as np
import pytest
from PIL import Image

from tests.image.files import EXACT, SIZE, chunk, distance, encoded, load, picture, png

FIRST_ROW_AND_COLUMN = dict(  # where EXIF orientations 1 to 8 say that a file begins
    enumerate(
        (
            "top left",
            "top right",
            "bottom right",
            "bottom left",
            "left top",
            "right top",
            "right bottom",
            "left bottom",
        ),
        1,
    )
)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation, file_format):
    pixels = np.asarray(picture())
    if "right" in FIRST_ROW_AND_COLUMN[orientation]:
        pixels = pixels[:, ::-1]
    if "bottom" in FIRST_ROW_AND_COLUMN[orientation]:
        pixels = pixels[::-1]
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    stored = Image.fromarray(np.ascontiguousarray(pixels))
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = load(tmp_path, encoded(stored, file_format, exif=exif))
    assert photo.rgb.size == SIZE
    assert distance(photo.rgb, picture()) <= (0 if file_format in EXACT else 30)
    assert not photo.rgb.info


def test_orientation_turns_alpha_and_16_bits_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = picture()
    image.putalpha(image.getchannel("R"))
    photo = load(tmp_path, encoded(image.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif))
    assert distance(photo.alpha, image.getchannel("A")) == 0
    grey = Image.fromarray(np.arange(6, dtype=np.uint16).reshape(2, 3) * 257)
    photo = load(tmp_path, encoded(grey.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif))
    assert np.asarray(photo.rgb)[..., 0].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0",
    ],
)
def test_broken_exif_is_ignored(tmp_path, exif):
    assert distance(load(tmp_path, encoded(picture(), "JPEG", exif=exif)).rgb, picture()) < 60


def test_broken_exif_text_is_ignored(tmp_path):
    text = chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 4\nno hex digits")
    assert load(tmp_path, png((1, 1), 8, 2, [b"abc"], text)).rgb.getpixel((0, 0)) == tuple(b"abc")
