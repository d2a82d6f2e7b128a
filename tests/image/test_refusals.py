"""What is refused, in one line, and what a header tells."""

import os
import warnings
from pathlib import Path

import pytest
from PIL import Image

from invrecon.errors import InputError
from invrecon.image import is_photo_file, load_photo, save_png
from tests.image.files import EXACT, LOSSY, check_message, distance, encoded, load, picture, png


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
