"""Pictures to files."""

import os
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from invrecon.errors import InvreconError
from invrecon.image import load_photo, plan_canvas, save_gif, save_png
from tests.image.files import check_message, distance, encoded, load, picture, swapped_profile


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


SECRET = "Erika Mustermann"


def photo_with_metadata(folder, file_format):
    """A photo whose file tells a name and a place in every way that the format has."""
    exif = Image.Exif()
    exif[0x010E] = exif[0x013B] = SECRET
    exif.get_ifd(0x8769)[0xA430] = SECRET
    exif.get_ifd(0x8825)[29] = SECRET
    info = PngInfo()
    info.add_text("Author", SECRET)
    comment = SECRET.encode()
    options = {
        "PNG": {"pnginfo": info, "exif": exif},
        "JPEG": {"exif": exif, "comment": comment, "xmp": comment},
        "GIF": {"comment": comment},
        "TIFF": {"tiffinfo": {270: SECRET, 315: SECRET}},
    }.get(file_format, {"exif": exif})
    data = encoded(picture(), file_format, **options)
    assert SECRET.encode() in data
    return data


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "AVIF", "HEIF", "JXL"])
def test_nothing_that_a_file_says_of_persons_and_places_is_written(tmp_path, file_format):
    data = photo_with_metadata(tmp_path, file_format)
    photo = load(tmp_path, data)
    assert not photo.rgb.info
    assert not photo.rgb.getexif()
    with Image.open(tmp_path / "photo") as opened:
        for number, image in enumerate((photo.rgb, opened)):
            save_png(image, tmp_path / f"{number}.png")
            save_gif([image, picture()], tmp_path / f"{number}.gif")
    written = [*tmp_path.glob("*.png"), *tmp_path.glob("*.gif")]
    assert len(written) == 4
    for path in written:
        assert SECRET.encode() not in path.read_bytes()
        with Image.open(path) as again:
            assert not again.getexif()
            assert not {"comment", "exif", "xmp", "Author"} & again.info.keys()


def test_a_canvas_takes_nothing_along(tmp_path):
    photo = load(tmp_path, photo_with_metadata(tmp_path, "JPEG"))
    canvas = plan_canvas(photo.rgb.size, 16, "crop")
    square = canvas.place(photo.rgb)
    restored = canvas.restore(square, photo)
    for image in (square, restored):
        assert not image.info
        assert not image.getexif()


def test_save_gif_runs_there_and_back(tmp_path):
    frames = [Image.new("RGB", (4, 4), (level, 0, 0)) for level in (0, 100, 200)]
    save_gif(frames, tmp_path / "way.gif", milliseconds=50)
    with Image.open(tmp_path / "way.gif") as way:
        assert (way.n_frames, way.info["loop"], way.info["duration"]) == (4, 0, 50)
        seen = []
        for number in range(way.n_frames):
            way.seek(number)
            seen.append(way.convert("RGB").getpixel((0, 0))[0])
    assert seen == [0, 100, 200, 100]


def test_a_saved_picture_keeps_its_transparency_and_profile(tmp_path):
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.putpixel((1, 0), 1)
    palette.info["transparency"] = 1
    profiled = picture()
    profiled.info["icc_profile"] = swapped_profile()
    for image in (palette, profiled):
        save_png(image, tmp_path / "saved.png")
        with Image.open(tmp_path / "saved.png") as saved:
            assert distance(saved.convert("RGBA"), image.convert("RGBA")) == 0
            assert saved.info.get("icc_profile") == image.info.get("icc_profile")
