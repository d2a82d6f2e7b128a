"""Colours that are not sRGB come out as they look, whichever way a file says so.

The right values are computed here: to linear light by the curve, to sRGB's primaries by XYZ, and back.
"""

import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageCms

from invrecon.errors import InputError
from invrecon.image import is_photo_file
from invrecon.image.profiles import make_profile
from tests.image.files import check_message, chunk, distance, encoded, load, picture, png, srgb_of_light

SRGB = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)  # white, red, green, blue
P3 = (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
BT2020 = (0.3127, 0.329, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046)
ADOBE_RGB = (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
COLOUR = (200, 110, 60)


def to_xyz(chromaticities):
    white, *colours = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in np.reshape(chromaticities, (4, 2)))
    basis = np.stack(colours, 1)
    return basis @ np.diag(np.linalg.solve(basis, white))


def as_seen(colour, chromaticities, gamma=None):
    """The sRGB values of a colour of 8 bits in another space with the same white."""
    values = np.array(colour) / 255
    srgb_curve = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    light = values**gamma if gamma else srgb_curve
    light = np.linalg.inv(to_xyz(SRGB)) @ to_xyz(chromaticities) @ light
    return (srgb_of_light(light.clip(0, 1)) * 255).round().astype(int)


def flat(colour=COLOUR):
    return Image.new("RGB", (16, 16), colour)


def seen(folder, data):
    return load(folder, data).rgb.getpixel((8, 8))


AS_P3, AS_BT2020 = tuple(as_seen(COLOUR, P3)), tuple(as_seen(COLOUR, BT2020))
AS_ADOBE_RGB = tuple(as_seen(COLOUR, ADOBE_RGB, 563 / 256))


def test_the_right_values():
    """sRGB's primaries in other spaces, as CSS Color 4 has them."""
    for colour, right in (
        ((0.91749, 0.20029, 0.13856), (255, 0, 0)),
        ((0.4584, 0.98526, 0.29833), (0, 255, 0)),
    ):
        assert distance(as_seen(np.multiply(colour, 255), P3), right) <= 1
    for colour, right in (((0.85859, 0, 0), (255, 0, 0)), ((0.56498, 1, 0.23443), (0, 255, 0))):
        assert distance(as_seen(np.multiply(colour, 255), ADOBE_RGB, 563 / 256), right) <= 1
    assert distance(AS_P3, COLOUR) > 8
    assert distance(AS_BT2020, COLOUR) > 16
    assert distance(AS_ADOBE_RGB, COLOUR) > 16


@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("PNG", {}),
        ("TIFF", {}),
        ("JPEG", {"quality": 100, "subsampling": 0}),
        ("WEBP", {"lossless": True}),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}),
        ("HEIF", {"quality": -1, "chroma": 444}),
    ],
)
def test_display_p3_by_its_profile(tmp_path, file_format, options):
    data = encoded(flat(), file_format, icc_profile=make_profile(P3, None), **options)
    assert distance(seen(tmp_path, data), AS_P3) <= (1 if file_format in ("PNG", "TIFF", "WEBP") else 3)


def test_a_jpeg_2000_s_profile(tmp_path):
    """Pillow writes none, so its box of sRGB is put in the place of one with a profile."""
    data = encoded(flat(), "JPEG2000")
    srgb = struct.pack(">I4sBBBI", 15, b"colr", 1, 0, 0, 16)
    header = data.index(b"jp2h") - 4
    length = int.from_bytes(data[header : header + 4], "big")
    assert data.count(srgb, header, header + length) == 1
    icc = make_profile(P3, None)
    box = struct.pack(">I4sBBB", 11 + len(icc), b"colr", 2, 0, 0) + icc
    longer = struct.pack(">I", length + len(box) - len(srgb)) + data[header + 4 :].replace(srgb, box)
    assert distance(seen(tmp_path, data), COLOUR) == 0
    assert distance(seen(tmp_path, data[:header] + longer), AS_P3) <= 1


@pytest.mark.parametrize("chromaticities", [SRGB, P3, BT2020, ADOBE_RGB])
@pytest.mark.parametrize("gamma", [None, 1.0, 1.8, 2.2, 2.8])
def test_made_profiles_are_right_for_every_colour(tmp_path, chromaticities, gamma):
    colours = np.random.default_rng(0).integers(0, 256, (1, 500, 3), np.uint8)
    data = encoded(Image.fromarray(colours), "PNG", icc_profile=make_profile(chromaticities, gamma))
    right = [as_seen(colour, chromaticities, gamma) for colour in colours[0]]
    assert distance(load(tmp_path, data).rgb, [right]) <= 1


def test_a_made_srgb_profile_is_srgb():
    """White, red, green and blue of LittleCMS's own sRGB, within rounding."""
    made = ImageCms.ImageCmsProfile(BytesIO(make_profile(SRGB, None))).profile
    own = ImageCms.createProfile("sRGB")
    for name in ("red_colorant", "green_colorant", "blue_colorant"):
        assert np.allclose(getattr(made, name)[0], getattr(own, name)[0], atol=5e-4)


@pytest.mark.parametrize(
    ("primaries", "transfer", "right"),
    [
        (1, 13, COLOUR),
        (1, 1, COLOUR),  # video's curve: taken for sRGB's, as viewers do
        (2, 2, COLOUR),  # not said
        (12, 13, AS_P3),
        (9, 13, AS_BT2020),
        (1, 4, tuple(as_seen(COLOUR, SRGB, 2.2))),
        (1, 8, tuple(as_seen(COLOUR, SRGB, 1.0))),
        (12, 8, tuple(as_seen(COLOUR, P3, 1.0))),
    ],
)
def test_cicp(tmp_path, primaries, transfer, right):
    """The numbers of ITU-T H.273, in PNG and in HEIF."""
    rows = [bytes(COLOUR) * 16] * 16
    cicp = chunk(b"cICP", bytes([primaries, transfer, 0, 1]))
    assert distance(seen(tmp_path, png((16, 16), 8, 2, rows, cicp)), right) <= 1
    said = {"color_primaries": primaries, "transfer_characteristics": transfer, "matrix_coefficients": 6}
    data = encoded(flat(), "HEIF", quality=-1, chroma=444, full_range_flag=1, **said)
    assert distance(seen(tmp_path, data), right) <= 3


def test_cicp_of_an_avif(tmp_path):
    """Pillow writes none but sRGB's, so the numbers are changed in the file."""
    data = encoded(flat(), "AVIF", quality=100, subsampling="4:4:4")
    assert distance(seen(tmp_path, data), COLOUR) <= 2
    srgb, p3 = (b"colrnclx" + struct.pack(">HH", primaries, 13) for primaries in (1, 12))
    assert data.count(srgb) == 1
    assert distance(seen(tmp_path, data.replace(srgb, p3)), AS_P3) <= 3


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_colours_are_refused(tmp_path, transfer, name):
    """Read as sRGB they would be pale, without a word."""
    row = png((1, 1), 8, 2, [b"abc"], chunk(b"cICP", bytes([9, transfer, 0, 1])))
    said = {"color_primaries": 9, "transfer_characteristics": transfer}
    heif = encoded(picture(), "HEIF", matrix_coefficients=9, full_range_flag=1, **said)
    srgb, hdr = (b"colrnclx" + struct.pack(">HH", *numbers) for numbers in ((1, 13), (9, transfer)))
    avif = encoded(picture(), "AVIF").replace(srgb, hdr)
    for data in (row, heif, avif):
        with pytest.raises(
            InputError, match=rf"photo: has HDR colours \({name}\); export it as SDR"
        ) as caught:
            load(tmp_path, data)
        check_message(caught.value, "photo")
        assert not is_photo_file(tmp_path / "photo")


def gama(value):
    return chunk(b"gAMA", struct.pack(">I", round(value * 100000)))


def chrm(chromaticities):
    return chunk(b"cHRM", struct.pack(">8I", *(round(value * 100000) for value in chromaticities)))


@pytest.mark.parametrize(
    ("chunks", "right"),
    [
        ([gama(0.45455)], COLOUR),  # 1 / 2.2 stands for sRGB's curve
        ([gama(0.45455), chrm(SRGB)], COLOUR),
        ([gama(0.45455), chrm(P3)], AS_P3),
        ([chrm(P3)], AS_P3),
        ([gama(1.0)], tuple(as_seen(COLOUR, SRGB, 1.0))),
        ([gama(1 / 1.8)], tuple(as_seen(COLOUR, SRGB, 1.8))),
        ([gama(1.0), chrm(P3)], tuple(as_seen(COLOUR, P3, 1.0))),
        ([chunk(b"sRGB", b"\0"), gama(1.0), chrm(P3)], COLOUR),
        ([chunk(b"cICP", bytes([12, 13, 0, 1])), chunk(b"sRGB", b"\0"), gama(1.0)], AS_P3),
        ([gama(0)], COLOUR),
        ([gama(0.001)], COLOUR),
        ([chrm((0, 0, 0, 0, 0, 0, 0, 0))], COLOUR),
        ([chrm((0.3127, 0.329) * 4)], COLOUR),
        ([chrm((0.3127, 0.329, 20000, 20000, 0.1, 0.1, 0.2, 1e-5))], COLOUR),
        ([chunk(b"cHRM", b"short")], COLOUR),
        ([chunk(b"cICP", b"\x0c\x0d")], COLOUR),
    ],
)
def test_png_without_a_profile(tmp_path, chunks, right):
    data = png((16, 16), 8, 2, [bytes(COLOUR) * 16] * 16, *chunks)
    assert distance(seen(tmp_path, data), right) <= 1


def test_gamma_of_a_grey_png(tmp_path):
    data = png((2, 1), 8, 0, [bytes([1, 128])], gama(1.0))
    assert [load(tmp_path, data).rgb.getpixel((x, 0))[0] for x in (0, 1)] == [13, 188]


@pytest.mark.parametrize("mark", ["R03", "R98"])
def test_adobe_rgb_marked_in_exif_alone(tmp_path, mark):
    """So cameras write it: DCF's option file, without a profile."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = 65535
    exif.get_ifd(0x8769)[0xA005] = {1: mark}
    plain, marked = (encoded(flat(), "JPEG", quality=100, subsampling=0, exif=one) for one in (b"", exif))
    stored = seen(tmp_path, plain)
    right = as_seen(stored, ADOBE_RGB, 563 / 256) if mark == "R03" else stored
    assert distance(seen(tmp_path, marked), right) <= 1
