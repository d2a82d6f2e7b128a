"""Colour profiles."""

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.image.files import (
    cmyk_profile,
    distance,
    encoded,
    grey_profile,
    load,
    picture,
    srgb_of_light,
    swapped_profile,
)


def test_rgb_profile_is_applied(tmp_path):
    red, green, blue = picture().split()
    for file_format in ("PNG", "TIFF"):
        photo = load(tmp_path, encoded(picture(), file_format, icc_profile=swapped_profile()))
        assert distance(photo.rgb, Image.merge("RGB", (blue, green, red))) <= 3
        assert "icc_profile" not in photo.rgb.info


def test_profile_acts_before_alpha(tmp_path):
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 128))
    photo = load(tmp_path, encoded(image, "PNG", icc_profile=swapped_profile()))
    assert distance(photo.rgb.getpixel((0, 0)), (127, 127, 255)) <= 2


def test_srgb_profile_changes_nothing(tmp_path):
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for mode in ("RGB", "L"):
        photo = load(tmp_path, encoded(picture(mode=mode), "PNG", icc_profile=icc))
        assert distance(photo.rgb, picture(mode=mode).convert("RGB")) <= 1


def test_rgb_profile_is_applied_to_grey(tmp_path):
    """sRGB without its straight part near black, where it is lighter than the power 2.4."""
    icc = (
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        .tobytes()
        .replace(b"para\0\0\0\0\0\3", b"para\0\0\0\0\0\0")
    )
    photo = load(tmp_path, encoded(Image.new("L", (4, 4), 20), "PNG", icc_profile=icc))
    linear = (20 / 255) ** 2.4
    assert distance(photo.rgb.getpixel((0, 0)), round(linear * 12.92 * 255)) <= 1


def test_grey_profile_is_applied(tmp_path):
    """Half of the light is 188 in sRGB."""
    photo = load(tmp_path, encoded(Image.new("L", (4, 4), 128), "PNG", icc_profile=grey_profile()))
    assert distance(photo.rgb.getpixel((0, 0)), (188, 188, 188)) <= 1


@pytest.mark.parametrize("file_format", ["TIFF", "JPEG"])
def test_cmyk_profile_is_applied(tmp_path, file_format):
    image = Image.new("CMYK", (16, 16), (200, 100, 50, 0))
    photo = load(tmp_path, encoded(image, file_format, icc_profile=cmyk_profile()))
    assert min(photo.rgb.getpixel((8, 8))) >= 250  # without the profile this is a dark blue
    assert load(tmp_path, encoded(image, file_format)).rgb.getpixel((8, 8))[0] < 80


@pytest.mark.parametrize(
    "icc", [b"rubbish", grey_profile(), cmyk_profile(), swapped_profile()[:200], b"\0" * 128]
)
def test_profile_that_does_not_fit_is_ignored(tmp_path, icc):
    assert distance(load(tmp_path, encoded(picture(), "PNG", icc_profile=icc)).rgb, picture()) == 0


def test_a_grey_profile_is_exact_near_black(tmp_path):
    """LittleCMS's table for whole grey images takes the first eight levels for a straight line."""
    levels = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    photo = load(tmp_path, encoded(levels, "PNG", icc_profile=grey_profile()))
    right = (srgb_of_light(np.arange(256) / 255) * 255).round()
    assert distance(np.asarray(photo.rgb)[0, :, 0], right) <= 1
