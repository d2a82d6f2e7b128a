"""Photos, the canvas, tensors and PNG files."""

import hashlib
import os
import random
import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image, ImageChops, ImageCms

from invrecon.errors import InputError, InvreconError
from invrecon.image import (
    Photo,
    _to_srgb,
    is_photo_file,
    load_photo,
    plan_canvas,
    save_png,
    to_image,
    to_tensor,
)

SIZE = (40, 30)
EXACT = ("PNG", "TIFF", "BMP", "DIB", "TGA", "PPM")  # formats that keep RGB to the bit
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
LOSSY = ("JPEG", "MPO", "WEBP", "AVIF", "GIF")


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
    image.save(file, file_format, **options)
    return file.getvalue()


def load(folder, data, name="photo") -> Photo:
    path = folder / name
    path.write_bytes(data)
    return load_photo(path)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(size, depth, colour, rows, *extra):
    """A PNG file built by hand, for what Pillow can't write: `rows` are its bytes without the filter bytes."""
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + b"".join(extra)
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


def distance(a, b):
    return np.abs(np.asarray(a, int) - np.asarray(b, int)).max()


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
        *[("CMYK", "TIFF"), ("CMYK", "JPEG"), ("YCbCr", "TIFF"), ("LAB", "TIFF"), ("RGBX", "TIFF")],
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
    rgb, alpha = _to_srgb(image)
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


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
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


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_thin_photos(tmp_path, size, fit):
    photo = load(tmp_path, encoded(Image.new("RGB", size, (10, 200, 90)), "PNG"))
    canvas = plan_canvas(size, 64, fit)
    square = canvas.place(photo.rgb)
    assert square.getcolors() == [(64 * 64, (10, 200, 90))]
    assert distance(canvas.restore(square, photo), photo.rgb) == 0


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "TGA", "AVIF"])
def test_truncated_files(tmp_path, file_format):
    """A cut file is refused, or nothing of the picture was cut away."""
    data = encoded(picture(), file_format)
    whole = load(tmp_path, data).rgb
    refused = 0
    for end in {
        *range(40),
        *range(40, len(data), max(1, len(data) // 60)),
        *range(len(data) - 12, len(data)),
    }:
        try:
            assert distance(load(tmp_path, data[:end]).rgb, whole) == 0, end
        except InputError as error:
            refused += 1
            check_message(error, "photo")
    assert refused > 60


def check_message(error, name):
    text = str(error)
    assert name in text
    assert text.isprintable(), text
    assert len(text) < 800


@pytest.mark.parametrize(
    "size", [(60000, 60000), (2**31 - 1, 2**31 - 1), (10001, 10000), (100_000_001, 1), (14000, 14000)]
)
def test_bombs_are_refused_before_decoding(tmp_path, monkeypatch, size):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(InputError, match="photo: has more than 100 megapixels") as caught:
        load(tmp_path, png(size, 8, 2, [b"\0" * 12]))
    check_message(caught.value, "photo")


def test_100_megapixels_are_not_too_many(tmp_path):
    """The declared size passes, so the pixels are asked for, and they are missing."""
    with pytest.raises(InputError, match="damaged"):
        load(tmp_path, png((10000, 10000), 1, 0, [b"\0" * 12]))


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"Not a picture\n" * 99, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", bytes(5000)],
)
def test_what_is_no_picture_is_refused(tmp_path, data):
    with pytest.raises(InputError, match=r"text\.png: is") as caught:
        load(tmp_path, data, "text.png")
    check_message(caught.value, "text.png")
    assert ("empty" in str(caught.value)) == (data == b"")


def test_no_pixels(tmp_path):
    with pytest.raises(InputError, match="photo: "):
        load(tmp_path, png((0, 5), 8, 2, [b""]))


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    places = {
        ".": "folder",
        "missing.png": "No such file",
        "link": "No such file",
        "pipe": "regular file",
        "a" * 300: "long",
        "a\0b": "can't be read",
    }
    for name, reason in places.items():
        with pytest.raises(InputError, match=reason) as caught:
            load_photo(tmp_path / name)
        check_message(caught.value, "a\\x00b" if "\0" in name else name if name != "." else str(tmp_path))


def test_unreadable_file(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "photo").touch()
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"photo: can't be read \(Permission denied\)"):
        load_photo(tmp_path / "photo")


def test_too_little_memory(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise MemoryError

    data = encoded(picture(mode="P"), "PNG")
    for name in ("load", "convert"):
        with monkeypatch.context() as patch:
            patch.setattr(Image.Image, name, refuse)
            with pytest.raises(InputError, match="photo: doesn't fit into memory"):
                load(tmp_path, data)


@pytest.mark.parametrize("file_format", EXACT + LOSSY)
def test_a_header_tells_a_photo_without_decoding(tmp_path, monkeypatch, file_format):
    (tmp_path / "photo").write_bytes(encoded(picture((200, 200)), file_format))
    Image.init()  # some plugins make pictures when they are imported
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    assert is_photo_file(tmp_path / "photo")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b'{"prompt": "a cat"}',
        b"\0\0\0\x18ftypheic",
        bytes(5000),
        png((60000, 60000), 8, 2, [b"\0" * 12]),
    ],
)
def test_a_header_tells_what_is_no_photo(tmp_path, data, capfd):
    (tmp_path / "photo").write_bytes(data)
    assert not is_photo_file(tmp_path / "photo")
    assert capfd.readouterr().err == ""


def test_what_is_no_file_is_no_photo(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in (".", "missing", "pipe", "a" * 300, "a\0b"):
        assert not is_photo_file(tmp_path / name)


@pytest.mark.parametrize(
    "name",
    [
        "two\nlines.png",
        "\x1b[31mred.png",
        "tab\t.png",
        "\u202egnp.exe",
        os.fsdecode(b"\xff\xfe.png"),
        "%s{0}.png",
    ],
)
def test_hostile_names(tmp_path, name):
    with pytest.raises(InputError) as caught:
        load(tmp_path, b"no picture", name)
    assert str(caught.value).isprintable()
    str(caught.value).encode()
    assert distance(load(tmp_path, encoded(picture(), "PNG"), name).rgb, picture()) == 0
    save_png(picture(), tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("block", range(12))
def test_mutated_files_load_or_are_refused(tmp_path, block, mutants):
    loaded = 0
    for seed in range(25 * block, 25 * (block + 1)):
        try:
            photo = load(tmp_path, mutants(seed))
        except InputError as error:
            check_message(error, "photo")
        else:
            loaded += 1
            assert photo.rgb.mode == "RGB"
            assert photo.alpha is None or (photo.alpha.mode, photo.alpha.size) == ("L", photo.rgb.size)
    assert 0 < loaded < 25


@pytest.fixture(scope="module")
def mutants():
    """seed -> a valid file with some bytes changed, cut out or doubled."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a caption"
    icc = swapped_profile()
    clear = picture()
    clear.putalpha(clear.getchannel("R"))
    originals = [encoded(picture(), file_format) for file_format in EXACT + LOSSY]
    originals += [
        encoded(picture(mode=mode), "TIFF", compression="tiff_lzw")
        for mode in ("1", "L", "CMYK", "YCbCr", "LAB", "I", "F", "I;16")
    ]
    originals += [
        encoded(picture(), "TIFF", compression=name) for name in ("tiff_deflate", "packbits", "jpeg")
    ]
    originals += [
        encoded(picture(), name, exif=exif, icc_profile=icc)
        for name in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")
    ]
    originals += [encoded(clear, name) for name in ("PNG", "WEBP", "TGA", "TIFF", "AVIF")]
    originals += [encoded(picture(mode="P"), name, transparency=3) for name in ("PNG", "GIF")]
    originals += [
        encoded(picture(), "JPEG", progressive=True),
        encoded(picture(mode="CMYK"), "JPEG"),
        encoded(picture(mode="I"), "PPM"),
    ]
    originals += [
        encoded(picture(mode="L"), "PNG", transparency=3),
        encoded(picture(mode="I;16"), "PNG", transparency=7),
    ]

    def mutate(seed):
        rng = random.Random(seed)
        data = bytearray(originals[seed % len(originals)])
        for _ in range(rng.choice((1, 1, 2, 8))):
            at, length = rng.randrange(rng.choice((min(200, len(data)), len(data)))), rng.choice((1, 1, 2, 8))
            same_length = (rng.randbytes(length), b"\0" * length, b"\xff" * length)
            data[at : at + length] = rng.choice((*same_length * 3, b"", data[at : at + length] * 2))
        return bytes(data)

    return mutate


def test_pillow_warnings_stay_silent_and_settings_unchanged(tmp_path):
    limit, filters = Image.MAX_IMAGE_PIXELS, warnings.filters[:]
    image = Image.new("RGB", (2, 2))
    load(tmp_path, encoded(image, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0"))
    assert (Image.MAX_IMAGE_PIXELS, warnings.filters) == (limit, filters)


def test_decoders_that_write_to_stderr_are_not_heard(tmp_path, capfd):
    data = bytearray(encoded(picture(), "TIFF", compression="tiff_deflate"))
    data[200:600] = b"\xff" * 400
    with pytest.raises(InputError):
        load(tmp_path, bytes(data))
    os.write(2, b"heard again")
    assert capfd.readouterr().err == "heard again"


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_square_photo_of_the_canvas_size_is_untouched(fit):
    image = picture((48, 48))
    canvas = plan_canvas(image.size, 48, fit)
    assert canvas.box == (0, 0, 48, 48)
    assert distance(canvas.place(image), image) == 0
    assert distance(canvas.restore(image, Photo(Path("x"), image, None, "")), image) == 0


@pytest.mark.parametrize("size", [(80, 48), (48, 80), (81, 48)])
def test_crop_shows_the_middle_and_pastes_into_the_photo(size):
    image = picture(size)
    photo = Photo(Path("x"), image, None, "")
    canvas = plan_canvas(size, 48, "crop")
    square = canvas.place(image)
    assert distance(square, image.crop(canvas.box)) == 0
    assert distance(canvas.restore(square, photo), image) == 0
    changed = canvas.restore(ImageChops.invert(square), photo)
    outside = np.ones(size[::-1], bool)
    outside[canvas.box[1] : canvas.box[3], canvas.box[0] : canvas.box[2]] = False
    same = (np.asarray(changed) == np.asarray(image)).all(-1)
    assert same[outside].all()
    assert not same[~outside].any()
    assert distance(image, photo.rgb) == 0
    assert abs((canvas.box[0] + canvas.box[2]) - size[0]) <= 1
    assert abs((canvas.box[1] + canvas.box[3]) - size[1]) <= 1


@pytest.mark.parametrize("size", [(64, 32), (32, 64), (64, 31)])
def test_pad_is_exact_at_the_same_scale_and_continues_the_edges(size):
    image = picture(size)
    canvas = plan_canvas(size, 64, "pad")
    square = canvas.place(image)
    left, top, right, bottom = canvas.box
    assert square.size == (64, 64)
    assert distance(square.crop(canvas.box), image) == 0
    values = np.asarray(square)
    assert (values[:top] == values[top]).all()
    assert (values[bottom:] == values[bottom - 1]).all()
    assert (values[:, :left] == values[:, left : left + 1]).all()
    assert (values[:, right:] == values[:, right - 1 : right]).all()
    assert distance(canvas.restore(square, Photo(Path("x"), image, None, "")), image) == 0


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [(300, 200), (200, 301), (90, 40)])
def test_round_trip_of_a_smooth_photo(fit, size):
    image = picture(size)
    canvas = plan_canvas(size, 128, fit)
    back = canvas.restore(canvas.place(image), Photo(Path("x"), image, None, ""))
    assert back.size == size
    assert distance(back, image) <= 4


def test_large_photo_is_averaged_when_reduced():
    """Stripes of single pixels become grey, without a pattern."""
    stripes = Image.fromarray((np.indices((1500, 2000)).sum(0) % 2 * 255).astype(np.uint8)).convert("RGB")
    for fit in ("crop", "pad", "stretch"):
        assert distance(plan_canvas(stripes.size, 50, fit).place(stripes), np.full((50, 50, 3), 127)) <= 2


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_alpha_is_put_back(tmp_path, fit):
    """The restored picture has the photo's alpha and, laid on white, gives the photo back."""
    image = picture((64, 48))
    image.putalpha(image.getchannel("R"))
    photo = load(tmp_path, encoded(image, "PNG"))
    canvas = plan_canvas(photo.rgb.size, 64, fit)
    restored = canvas.restore(canvas.place(photo.rgb), photo)
    assert restored.mode == "RGBA"
    assert distance(restored.getchannel("A"), photo.alpha) == 0
    again = load(tmp_path, encoded(restored, "PNG"))
    assert distance(again.rgb, photo.rgb) <= 4
    opaque = np.asarray(image)[..., 3] > 128
    assert np.abs(np.asarray(restored, int) - np.asarray(image, int))[opaque].max() <= 8


def test_tensor_round_trip_is_exact_for_every_value():
    image = Image.fromarray(np.arange(768, dtype=np.uint8).reshape(16, 16, 3) ^ np.uint8(85))
    pixels = to_tensor(image)
    assert (pixels.shape, pixels.dtype) == ((1, 3, 16, 16), torch.float32)
    assert (pixels.min(), pixels.max()) == (-1, 1)
    assert distance(to_image(pixels), image) == 0


def test_tensor_axes():
    pixels = to_tensor(picture((20, 10)))
    assert pixels.shape == (1, 3, 10, 20)
    assert (pixels[0, 0].diff(dim=1) > 0).all()
    assert (pixels[0, 1].diff(dim=0) > 0).all()
    assert to_image(pixels).size == (20, 10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_conversions_are_those_of_diffusers(dtype):
    processor = VaeImageProcessor()
    pixels = (torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.8).to(dtype)
    assert distance(to_image(pixels), processor.postprocess(pixels, "pil")[0]) == 0
    assert torch.equal(to_tensor(picture((32, 32))), processor.preprocess(picture((32, 32))))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_raise(value):
    pixels = torch.zeros(1, 3, 4, 4)
    pixels[0, 1, 2, 3] = value
    with pytest.raises(InvreconError, match="finite"):
        to_image(pixels)


def test_save_png(tmp_path):
    path = tmp_path / "new" / "folder" / "photo.png"
    for image in (picture(), picture(mode="RGBA")):
        save_png(image, path)
        with Image.open(path) as saved:
            assert saved.format == "PNG"
            assert distance(saved, image) == 0
    assert list(path.parent.iterdir()) == [path]


def test_saved_photo_is_read_as_srgb(tmp_path):
    """The profile of the source doesn't travel into the result."""
    photo = load(tmp_path, encoded(picture(), "PNG", icc_profile=swapped_profile()))
    save_png(photo.rgb, tmp_path / "saved.png")
    assert distance(load_photo(tmp_path / "saved.png").rgb, photo.rgb) == 0


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), KeyboardInterrupt(), MemoryError()]
)
@pytest.mark.parametrize("moment", ["write", "replace"])
def test_failed_save_leaves_nothing_behind(tmp_path, monkeypatch, error, moment):
    path = tmp_path / "photo.png"
    path.write_bytes(b"old")

    def fail(self, target, *args, **kwargs):
        if moment == "write":
            Path(target).write_bytes(b"half a file")
        raise error

    monkeypatch.setattr(*((Image.Image, "save") if moment == "write" else (os, "replace")), fail)
    with pytest.raises(InvreconError if isinstance(error, OSError) else type(error)) as caught:
        save_png(picture(), path)
    if isinstance(error, OSError):
        check_message(caught.value, "photo.png")
        assert "No space left" in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


def test_save_where_it_can_not_be(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "file" / "photo.png", tmp_path / ("a" * 300 + ".png")):
        with pytest.raises(InvreconError, match="can't be written") as caught:
            save_png(picture(), path)
        check_message(caught.value, path.name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]
