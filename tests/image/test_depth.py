"""More than 8 bits."""

import struct

import numpy as np
import pytest
from PIL import Image

from tests.image.files import encoded, load, png


@pytest.mark.parametrize(
    ("mode", "file_format"), [("I;16", "PNG"), ("I;16", "TIFF"), ("I;16B", "TIFF"), ("I", "PPM")]
)
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, mode, file_format):
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    image = Image.fromarray(levels.astype("int32" if mode == "I" else ">u2" if mode == "I;16B" else "<u2"))
    assert image.mode == mode
    grey = np.asarray(load(tmp_path, encoded(image, file_format)).rgb)
    assert (grey == (levels // 257)[..., None]).all()


def test_16_bit_colour(tmp_path):
    row = struct.pack(">6H", 0, 257 * 100, 65535, 65535, 257 * 7, 0)
    photo = load(tmp_path, png((2, 1), 16, 2, [row]))
    assert [photo.rgb.getpixel((x, 0)) for x in (0, 1)] == [(0, 100, 255), (255, 7, 0)]


@pytest.mark.parametrize(
    ("values", "grey"),
    [
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[0, 100, 255]], np.float32), [0, 100, 255]),
        (np.array([[-1, 0, 1]], np.float32), [0, 128, 255]),
        (np.array([[np.nan, 0.6, np.inf]], np.float32), [0, 153, 0]),
        (np.full((1, 3), np.nan, np.float32), [0, 0, 0]),
        (np.array([[0, 257 * 80, 65535]], np.int32), [0, 80, 255]),
        (np.array([[-(2**31), 0, 2**31 - 1]], np.int32), [0, 128, 255]),
        (np.array([[99999, 99999, 99999]], np.int32), [0, 0, 0]),
    ],
)
def test_32_bit_grey_is_spread_over_8_bits(tmp_path, values, grey):
    photo = load(tmp_path, encoded(Image.fromarray(values), "TIFF"))
    assert [photo.rgb.getpixel((x, 0))[0] for x in range(3)] == grey
