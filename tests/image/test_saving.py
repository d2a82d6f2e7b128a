"""Pictures to files."""

import os
from pathlib import Path

import pytest
from PIL import Image

from invrecon.errors import InvreconError
from invrecon.image import load_photo, save_png
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
