"""HEIC and HEIF, JPEG XL and JPEG 2000."""

import subprocess
import sys
from io import BytesIO

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from invrecon.errors import InputError
from invrecon.image import is_photo_file, load_photo
from tests.image.files import SIZE, check_message, distance, encoded, load, picture

EXACT_HEIF = {"quality": -1, "chroma": 444}


def heif(image, **options):
    return encoded(image, "HEIF", **(EXACT_HEIF | options))


def deep_heif(values, bits, **options):
    """`values` (height, width, 3) uint16, of which the upper bits are kept."""
    size = values.shape[1::-1]
    pillow_heif.options.SAVE_HDR_TO_12_BIT = bits == 12
    try:
        file = pillow_heif.from_bytes(mode="RGB;16", size=size, data=values.astype("<u2").tobytes())
        stream = BytesIO()
        file.save(stream, **(EXACT_HEIF | options))
        return stream.getvalue()
    finally:
        pillow_heif.options.SAVE_HDR_TO_12_BIT = False


def test_heic_is_read_as_it_was(tmp_path):
    photo = load(tmp_path, heif(picture()), "IMG_1.HEIC")
    assert (photo.rgb.size, photo.alpha, photo.note) == (SIZE, None, None)
    assert distance(photo.rgb, picture()) <= 2
    assert is_photo_file(photo.path)


@pytest.mark.parametrize("name", ["IMG_1.jpg", "IMG_1.PNG", "IMG_1"])
def test_a_heic_under_another_name(tmp_path, name):
    """As messengers and file managers rename them: what a file holds counts."""
    assert distance(load(tmp_path, heif(picture()), name).rgb, picture()) <= 2
    photo = load(tmp_path, encoded(picture(), "PNG"), f"{name}.HEIC")
    assert distance(photo.rgb, picture()) == 0


@pytest.mark.parametrize("brand", [b"mif1", b"heix", b"msf1"])
def test_brands(tmp_path, brand):
    data = heif(picture())
    assert distance(load(tmp_path, data[:8] + brand + data[12:]).rgb, picture()) <= 2


def test_an_avif_under_the_general_brand(tmp_path):
    data = encoded(picture(), "AVIF")
    assert distance(load(tmp_path, data[:8] + b"mif1" + data[12:]).rgb, picture()) < 30


@pytest.mark.parametrize("bits", [10, 12])
def test_more_than_8_bits(tmp_path, bits):
    values = np.asarray(picture()).astype(np.uint16) * 257
    photo = load(tmp_path, deep_heif(values, bits))
    assert distance(photo.rgb, picture()) <= 2


def test_alpha(tmp_path):
    image = picture()
    image.putalpha(image.getchannel("R"))
    photo = load(tmp_path, heif(image))
    white = Image.alpha_composite(Image.new("RGBA", SIZE, "white"), image).convert("RGB")
    assert distance(photo.alpha, image.getchannel("A")) <= 1
    assert distance(photo.rgb, white) <= 3


def test_exif_does_not_turn_what_the_file_itself_leaves_upright(tmp_path):
    """In HEIF the transformations (irot, imir) count, EXIF is only told."""
    exif = Image.Exif()
    exif[0x0112] = 1
    data = heif(picture(), exif=exif)
    (at,) = [n for n in range(len(data)) if data[n : n + 4] in (b"\1\x12\0\3", b"\x12\1\3\0")]
    swapped = data[at : at + 2] == b"\x12\1"
    mutant = data[: at + 8] + (b"\6\0" if swapped else b"\0\6") + data[at + 10 :]
    assert mutant != data
    photo = load(tmp_path, mutant)
    assert photo.rgb.size == SIZE
    assert distance(photo.rgb, picture()) <= 2


def test_the_main_picture_of_a_collection_is_taken_and_said(tmp_path):
    others = [Image.new("RGB", (64, 64)), Image.new("RGB", (80, 64), "red")]
    data = encoded(
        others[0], "HEIF", save_all=True, append_images=[picture(), others[1]], primary_index=1, **EXACT_HEIF
    )
    photo = load(tmp_path, data)
    assert distance(photo.rgb, picture()) <= 2
    assert photo.note == "holds 3 pictures, of which the main one is used"


def test_a_large_heif_is_made_of_tiles(tmp_path):
    image = picture((300, 200))
    assert distance(load(tmp_path, heif(image, tile_size=128)).rgb, image) <= 2


def test_a_broken_heic_is_no_photo(tmp_path):
    data = heif(picture())
    for cut in (data[:12], data[:60], data[: len(data) // 2], data[:-1]):
        with pytest.raises(InputError, match=r"IMG_1\.HEIC: ") as caught:
            load(tmp_path, cut, "IMG_1.HEIC")
        check_message(caught.value, "IMG_1.HEIC")
    (tmp_path / "IMG_1.HEIC").write_bytes(data[:12])
    assert not is_photo_file(tmp_path / "IMG_1.HEIC")


@pytest.mark.parametrize(
    ("file_format", "module", "cure"),
    [
        ("HEIF", "pillow_heif", "pip install pillow-heif"),
        ("JXL", "pillow_jxl", 'pip install "invrecon[jxl]"'),
    ],
)
def test_a_format_whose_reader_is_missing(tmp_path, monkeypatch, file_format, module, cure):
    data = encoded(picture(), file_format)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError) as caught:
        load(tmp_path, data)
    assert cure in str(caught.value)
    check_message(caught.value, "photo")
    assert not is_photo_file(tmp_path / "photo")


def test_loading_leaves_pillow_as_it_was(tmp_path):
    """Nobody's Image.open reads HEIF all at once because invrecon does."""
    (tmp_path / "photo.heic").write_bytes(heif(picture()))
    code = (
        "import sys; from pathlib import Path; from PIL import Image; from invrecon.image import load_photo;"
        "load_photo(Path(sys.argv[1])); Image.init();"
        "assert 'HEIF' not in Image.OPEN; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "photo.heic")], check=True)


def test_jpeg_2000(tmp_path):
    image = picture()
    image.putalpha(image.getchannel("R"))
    photo = load(tmp_path, encoded(image, "JPEG2000"), "photo.jp2")
    assert distance(photo.alpha, image.getchannel("A")) == 0
    photo = load(tmp_path, encoded(picture(), "JPEG2000", no_jp2=True), "photo.j2k")
    assert distance(photo.rgb, picture()) == 0
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    photo = load_photo_of(tmp_path, Image.fromarray(grey))
    assert (np.asarray(photo.rgb)[..., 0] == grey // 257).all()


def load_photo_of(folder, image):
    (folder / "grey.jp2").write_bytes(encoded(image, "JPEG2000"))
    return load_photo(folder / "grey.jp2")
