"""JPEG XL."""

import struct

import numpy as np
import pytest
from PIL import Image

from invrecon.errors import InputError
from invrecon.image import is_photo_file
from tests.image.files import SIZE, check_message, distance, encoded, load, picture, srgb_of_light

SIZE_BITS = 15  # of the header of `picture()`: not small, its height in 9 bits, width 4 / 3 of it


def with_metadata(orientation=1, animation=False):
    """A lossy JPEG XL file whose header says more than the default, by hand."""
    data = encoded(picture(), "JXL")
    header = int.from_bytes(data[2:5], "little")
    assert header >> SIZE_BITS == 3  # metadata and transforms are the default ones
    bits = [header >> n & 1 for n in range(SIZE_BITS)]
    bits += [0, 1, *(orientation - 1 >> n & 1 for n in range(3)), 0, 0, int(animation)]
    bits += [
        0,
        0,
        0,
        1,
        0,
        0,
        1,
        1,
        1,
        0,
        0,
        1,
    ]  # 8 bits, no extra channels, XYB, default colours and transforms
    number = sum(bit << n for n, bit in enumerate(bits))
    return data[:2] + number.to_bytes((len(bits) + 7) // 8, "little") + data[5:]


def container(codestream, *boxes):
    def box(kind, data):
        return struct.pack(">I", 8 + len(data)) + kind + data

    parts = [box(b"JXL ", b"\r\n\x87\n"), box(b"ftyp", b"jxl \0\0\0\0jxl "), *(box(*one) for one in boxes)]
    return b"".join(parts) + box(b"jxlc", codestream)


def test_lossless(tmp_path):
    photo = load(tmp_path, encoded(picture(), "JXL", lossless=True))
    assert (photo.rgb.size, photo.alpha, photo.note) == (SIZE, None, None)
    assert distance(photo.rgb, picture()) == 0
    assert is_photo_file(photo.path)


def test_in_a_container(tmp_path):
    data = container(encoded(picture(), "JXL", lossless=True), (b"Exif", bytes(99)))
    assert distance(load(tmp_path, data).rgb, picture()) == 0


def test_alpha(tmp_path):
    image = picture()
    image.putalpha(image.getchannel("R"))
    photo = load(tmp_path, encoded(image, "JXL", lossless=True))
    assert distance(photo.alpha, image.getchannel("A")) == 0


def test_16_bits(tmp_path):
    """The plugin writes them in linear light, and says so in the profile."""
    light = np.arange(256, dtype=np.uint16).reshape(16, 16)
    photo = load(tmp_path, encoded(Image.fromarray(light * 257), "JXL", lossless=True))
    assert distance(np.asarray(photo.rgb)[..., 0], (srgb_of_light(light / 255) * 255).round()) <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_codestream_s_orientation_counts(tmp_path, orientation):
    """It is undone by the decoder; EXIF, which repeats it, must not turn the picture again."""
    upright = load(tmp_path, encoded(picture(), "JXL")).rgb
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = container(with_metadata(orientation), (b"Exif", bytes(4) + exif.tobytes()[6:]))
    turns = [None, 0, 3, 1, 5, 4, 6, 2]  # Image.Transpose
    turn = turns[orientation - 1]
    assert distance(load(tmp_path, data).rgb, upright if turn is None else upright.transpose(turn)) <= 2


def test_a_jpeg_packed_as_jpeg_xl_is_turned_by_its_exif(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "photo.jpg"
    picture().transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    with pytest.warns(UserWarning, match="JPEG reconstruction"), Image.open(path) as jpeg:
        packed = encoded(jpeg, "JXL")
    photo = load(tmp_path, packed)
    assert photo.rgb.size == SIZE
    assert distance(photo.rgb, load(tmp_path, path.read_bytes()).rgb) == 0


def test_an_animation_is_refused(tmp_path):
    with pytest.raises(InputError, match="is an animation") as caught:
        load(tmp_path, with_metadata(animation=True))
    check_message(caught.value, "photo")
    assert not is_photo_file(tmp_path / "photo")


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch, wrapped):
    """The plugin decodes where others only open."""
    from pillow_jxl import JpegXLImagePlugin

    monkeypatch.setattr(JpegXLImagePlugin, "Decoder", lambda **_: pytest.fail("decoded"))
    data = b"\xff\x0a" + ((1 << 30) - 1 << 3 | 3 << 1 | 1 << 33).to_bytes(9, "little") + bytes(40)
    with pytest.raises(InputError, match="more than 100 megapixels"):
        load(tmp_path, container(data) if wrapped else data)
    (tmp_path / "photo").write_bytes(encoded(picture(), "JXL"))
    assert is_photo_file(tmp_path / "photo")
