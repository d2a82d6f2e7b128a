"""Which picture of a file is the photo, and files that are none."""

import struct
import time

import pytest
from PIL import Image, ImageChops

from invrecon.errors import InputError
from invrecon.image import is_photo_file
from tests.image.files import SIZE, check_message, distance, encoded, load, picture

MAKE = b"NIKON\0"


def tiff(*pages, order="<", make=False, parts=()):
    """A TIFF file of flat grey pages, (width, height, level, tags) each; `parts` are the first's SubIFDs."""
    data = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4))

    def add(width, height, level, tags, links=()):
        pixels, text, table = len(data), 0, 0
        data.extend(bytes([level]) * (width * height))
        if make:
            text = len(data)
            data.extend(MAKE)
        if links:
            table = len(data)
            data.extend(struct.pack(f"{order}{len(links)}I", *links))
        if len(data) % 2:
            data.append(0)
        entries = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1)}
        entries |= {273: (4, 1, pixels), 277: (3, 1, 1), 278: (4, 1, height), 279: (4, 1, width * height)}
        entries |= {271: (2, len(MAKE), text)} if make else {}
        entries |= {330: (4, len(links), table if len(links) > 1 else links[0])} if links else {}
        entries |= {tag: (4, 1, value) for tag, value in tags.items()}
        start = len(data)
        data.extend(struct.pack(f"{order}H", len(entries)))
        for tag, (kind, count, value) in sorted(entries.items()):
            inline = (
                struct.pack(f"{order}H", value).ljust(4, b"\0")
                if kind == 3
                else struct.pack(f"{order}I", value)
            )
            data.extend(struct.pack(f"{order}HHI", tag, kind, count) + inline)
        data.extend(bytes(4))
        return start

    links, where = [add(*part) for part in parts], 4
    for page in pages:
        start = add(*page, links)
        struct.pack_into(f"{order}I", data, where, start)
        where, links = len(data) - 4, []
    return bytes(data)


def level(photo):
    return photo.rgb.size, photo.rgb.getpixel((0, 0))[0]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "pages",
    [
        [(40, 30, 200, {})],
        [(40, 30, 200, {}), (10, 8, 9, {254: 1})],  # a thumbnail behind the photo
        [(10, 8, 9, {254: 1}), (40, 30, 200, {})],  # before it
        [(10, 8, 9, {255: 2}), (40, 30, 200, {255: 1})],  # by the older tag
        [(40, 30, 200, {}), (20, 15, 9, {})],  # not marked
        [(10, 8, 9, {}), (40, 30, 200, {})],
        [(40, 30, 200, {}), (40, 30, 9, {254: 4})],  # a mask
        [(40, 30, 200, {}), (40, 30, 9, {254: 1}), (5, 5, 9, {})],
    ],
)
def test_a_tiff_s_photo_is_found_among_its_pictures(tmp_path, pages, order):
    photo = load(tmp_path, tiff(*pages, order=order))
    assert level(photo) == ((40, 30), 200)
    assert is_photo_file(tmp_path / "photo")


@pytest.mark.parametrize("count", [2, 3, 150])
def test_a_tiff_of_several_pages_is_refused(tmp_path, count):
    with pytest.raises(InputError, match="photo: is a TIFF file of several pages; save") as caught:
        load(tmp_path, tiff(*[(40, 30, 200, {254: 2})] * count))
    check_message(caught.value, "photo")
    assert not is_photo_file(tmp_path / "photo")


def test_pillow_s_pages_are_refused_too(tmp_path):
    with pytest.raises(InputError, match="several pages"):
        load(tmp_path, encoded(picture(), "TIFF", save_all=True, append_images=[picture()]))


def test_pages_that_lead_in_circles(tmp_path):
    data = bytearray(tiff((40, 30, 200, {}), (10, 8, 9, {254: 1})))
    data[-4:] = data[4:8]  # after the last page the first
    assert level(load(tmp_path, bytes(data))) == ((40, 30), 200)
    empty = b"II*\0\x08\0\0\0" + b"\0\0" + b"\x08\0\0\0"  # a directory without tags, after itself
    with pytest.raises(InputError):
        load(tmp_path, empty)


def test_a_directory_of_65535_tags(tmp_path):
    """Rubbish read as a directory costs no time."""
    data = b"II*\0\x08\0\0\0\xff\xff" + b"\x01\1\1\0\xff\xff\xff\xff\x08\0\0\0" * 70_000
    begun = time.monotonic()
    with pytest.raises(InputError):
        load(tmp_path, data)
    assert time.monotonic() - begun < 5


def test_previews_alone_are_no_photo(tmp_path):
    with pytest.raises(InputError, match="previews only"):
        load(tmp_path, tiff((10, 8, 9, {254: 1})))


def test_a_pyramid_is_read_at_its_full_size(tmp_path):
    """OME and other tiled TIFF files keep smaller copies in SubIFDs."""
    photo = load(tmp_path, tiff((40, 30, 200, {}), parts=[(20, 15, 9, {254: 1}), (10, 8, 9, {254: 1})]))
    assert level(photo) == ((40, 30), 200)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("pages", "options", "name"),
    [
        ([(10, 8, 9, {254: 1, 50706: 0x0104})], {"parts": [(40, 30, 200, {262: 32803})]}, "DNG"),
        ([(40, 30, 9, {50706: 0x0104, 262: 34892})], {}, "DNG"),
        ([(10, 8, 9, {254: 1})], {"make": True, "parts": [(40, 30, 200, {262: 32803})]}, "NIKON"),
        (
            [(10, 8, 9, {})],
            {"make": True, "parts": [(5, 4, 9, {254: 1}), (40, 30, 200, {})]},
            "NIKON",
        ),
        ([(40, 30, 9, {262: 32803})], {"make": True}, "NIKON"),
        ([(10, 8, 9, {254: 1})], {"parts": [(40, 30, 200, {262: 32803})]}, "of an unknown camera"),
    ],
)
def test_camera_raws_that_are_tiff_files(tmp_path, pages, options, name, order):
    with pytest.raises(InputError, match="camera raw file") as caught:
        load(tmp_path, tiff(*pages, order=order, **options))
    assert str(caught.value).endswith(
        f"photo: is a camera raw file ({name}); develop it to JPEG or TIFF first"
    )
    check_message(caught.value, "photo")
    assert not is_photo_file(tmp_path / "photo")


def test_canon_s_raw_has_a_mark_of_its_own(tmp_path):
    """The first picture of a CR2 is a JPEG that isn't marked as a preview."""
    data = tiff((40, 30, 200, {}))
    with pytest.raises(InputError, match=r"camera raw file \(CR2\)"):
        load(tmp_path, data[:8] + b"CR\2\0" + data[8:])


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "camera raw file (CR3); develop"),
        (b"FUJIFILMCCD-RAW 0201FF383501", "camera raw file (RAF); develop"),
        (b"IIRO\x08\0\0\0", "camera raw file (ORF); develop"),
        (b"IIU\0\x18\0\0\0", "camera raw file (RW2); develop"),
        (b"II\x1a\0\0\0HEAPCCDR", "camera raw file (CRW); develop"),
        (b"\0\0\0\x14ftypqt  \0\0\2\0qt  ", "video; save the frame"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "video; save the frame"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI\x50\0\x20\2", "PNG that Xcode changed"),
        (b"\0\0\0\x1cftyp3gp5\0\0\0\0isom3gp4", "video; save the frame"),
        (b"8BPS\0\1", "Photoshop document; export"),
        (b'\x40\x03\0\0\0\0\0\0{"__metadata__":{"invrecon":', "name it NAME.seed.safetensors"),
        (b"%PDF-1.7\n", "PDF document; export"),
        (b"PK\3\4\x14\0", "ZIP archive; unpack"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer, not the picture"),
        (b"\0\5\x16\7\0\2\0\0Mac OS X", "what macOS keeps beside a photo"),
        (b"\n<!DOCTYPE html>\n<html lang=en>", "web page, not the picture on it"),
        (b'<?xml version="1.0"?>\n<svg width="9">', "SVG drawing"),
    ],
)
def test_what_is_no_photo_is_called_by_its_name(tmp_path, start, kind):
    with pytest.raises(InputError) as caught:
        load(tmp_path, start + bytes(500), "IMG_1.jpg")
    assert kind in str(caught.value)
    check_message(caught.value, "IMG_1.jpg")
    assert not is_photo_file(tmp_path / "IMG_1.jpg")


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "AVIF"])
def test_the_first_frame_of_an_animation_is_taken_and_said(tmp_path, file_format):
    others = [ImageChops.invert(picture()), Image.new("RGB", SIZE)]
    options = {"save_all": True, "append_images": others}
    photo = load(tmp_path, encoded(picture(), file_format, **options))
    assert distance(photo.rgb, picture()) <= (0 if file_format == "PNG" else 60)
    assert photo.note.startswith("is an animation, of which the ")
    assert load(tmp_path, encoded(picture(), file_format)).note is None


def test_a_png_animation_s_still_picture_is_taken(tmp_path):
    options = {"save_all": True, "append_images": [Image.new("RGB", SIZE)] * 2, "default_image": True}
    photo = load(tmp_path, encoded(picture(), "PNG", **options))
    assert distance(photo.rgb, picture()) == 0
    assert photo.note == "is an animation, of which the still picture is used"


def test_the_first_picture_of_an_mpo_is_the_photo(tmp_path):
    """Its others are views from beside it, previews or gain maps; it is no matter if they are damaged."""
    data = encoded(picture(), "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))])
    for one in (data, data[:-100]):
        photo = load(tmp_path, one)
        assert distance(photo.rgb, picture()) < 60
        assert photo.note is None


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "HEIF", "TIFF", "JXL"])
def test_what_follows_a_whole_picture_is_no_matter(tmp_path, file_format):
    """A motion photo's video, or bytes that a card reader added."""
    data = encoded(picture(), file_format)
    whole = load(tmp_path, data)
    for more in (bytes(3), b"\xff" * 999, b"ftypmp42" * 99, data):
        assert distance(load(tmp_path, data + more).rgb, whole.rgb) == 0
