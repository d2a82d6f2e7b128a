"""What a PNG of ours says of itself."""

import json
import struct
import zlib
from xml.etree.ElementTree import fromstring

import pytest
from PIL import Image

from invrecon.errors import InputError
from invrecon.formats import PNG_SIGNATURE
from invrecon.image import load_photo, read_about, save_png
from invrecon.settings import EditSettings
from tests.image.files import check_message, distance, picture

ABOUT = {
    "kind": "reconstruction",
    "model": "mini",
    "fingerprint": "0",
    "prompt": 'яблоко, "a <red> apple" & more\n\0',
    "negative_prompt": "",
    "num_inference_steps": 20,
    "guidance_scale": 1.5,
    "sampler": "ddim",
    "width": 64,
    "height": 64,
    "versions": {"invrecon": "0.2.0"},
    "seed_sha256": "ab" * 32,
}
EDIT = ABOUT | {"kind": "edit", "edit": EditSettings(to="a pear", weights={"pear": 2.0}).header()}
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/"


@pytest.mark.parametrize("about", [ABOUT, EDIT])
def test_what_is_written_is_read(tmp_path, about):
    path = tmp_path / "a.png"
    save_png(picture(), path, about=about)
    assert read_about(path) == about
    with Image.open(path) as opened:
        assert json.loads(opened.text["invrecon"]) == about


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("reconstruction", "trainedAlgorithmicMedia"),
        ("imagined", "trainedAlgorithmicMedia"),
        ("edit", "compositeWithTrainedAlgorithmicMedia"),
        ("comparison", "compositeWithTrainedAlgorithmicMedia"),
    ],
)
def test_xmp_says_that_the_picture_is_generated(tmp_path, kind, source):
    path = tmp_path / "a.png"
    save_png(picture(), path, about=ABOUT | {"kind": kind})
    with Image.open(path) as opened:
        [description] = fromstring(opened.info["xmp"]).iter(f"{{{RDF}}}Description")
    assert description.get(f"{{{IPTC}}}DigitalSourceType") == SOURCE_TYPE + source


def test_pixels_are_the_same_with_and_without(tmp_path):
    for mode in ("RGB", "RGBA"):
        save_png(picture(mode=mode), tmp_path / "plain.png")
        save_png(picture(mode=mode), tmp_path / "told.png", about=ABOUT)
        with Image.open(tmp_path / "plain.png") as plain, Image.open(tmp_path / "told.png") as told:
            assert plain.tobytes() == told.tobytes()
    assert b"iTXt" not in (tmp_path / "plain.png").read_bytes()


def test_a_picture_of_ours_is_a_photo_like_any_other_and_its_words_go_no_further(tmp_path):
    save_png(picture(), tmp_path / "told.png", about=ABOUT)
    photo = load_photo(tmp_path / "told.png")
    assert distance(photo.rgb, picture()) == 0
    save_png(photo.rgb, tmp_path / "again.png")
    assert b"iTXt" not in (tmp_path / "again.png").read_bytes()


def test_text_that_is_no_unicode_is_replaced(tmp_path):
    save_png(picture(), tmp_path / "a.png", about=ABOUT | {"model": "m\udcff"})
    assert read_about(tmp_path / "a.png")["model"] == "m?"


def chunk(kind: bytes, data: bytes, length: int | None = None) -> bytes:
    size = len(data) if length is None else length
    return struct.pack(">I", size) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def text(data: bytes, length: int | None = None) -> bytes:
    return chunk(b"iTXt", b"invrecon\0\0\0\0\0" + data, length)


def changed(**fields) -> bytes:
    return text(json.dumps({**EDIT, **fields}).encode())


HOSTILE = {
    "no chunk": b"",
    "another's text": chunk(b"tEXt", b"Comment\0hello"),
    "no JSON": text(b"{"),
    "no text": text(b"\xff\xfe\xfd"),
    "compressed": chunk(b"iTXt", b"invrecon\0\1\0\0\0" + zlib.compress(b"{}")),
    "nothing after the keyword": chunk(b"iTXt", b"invrecon\0"),
    "a list": text(b"[]"),
    "an empty object": text(b"{}"),
    "deep": text(b"[" * 100_000),
    "deep within": changed(edit={"to": json.loads("[" * 500 + "]" * 500)}),
    "a long number": text(b"9" * 10_000),
    "larger than any": text(b" " * (1 << 20)),
    "longer than the file": text(b"{}", length=2**31),
    "cut short": text(json.dumps(ABOUT).encode())[:-9],
    "a wrong sum": text(json.dumps(ABOUT).encode())[:-1] + b"\0",
    "numbers for words": changed(prompt=1),
    "words for numbers": changed(num_inference_steps="20"),
    "truth for a number": changed(width=True),
    "not a number": changed(guidance_scale=float("nan")),
    "infinite": changed(guidance_scale=float("inf")),
    "versions": changed(versions={"torch": {"a": []}}),
    "no edit": changed(edit="a pear"),
    "an unknown edit": changed(edit={"to": "a pear", "more": 1}),
    "a wrong edit": changed(edit={"to": "a pear", "strength": 9}),
    "a hash": changed(seed_sha256=None),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_chunks_are_one_line(tmp_path, name):
    path = tmp_path / "bad.png"
    path.write_bytes(PNG_SIGNATURE + chunk(b"IHDR", bytes(13)) + HOSTILE[name])
    with pytest.raises(InputError) as caught:
        read_about(path)
    check_message(caught.value, "bad.png")
    assert len(str(caught.value)) < 300
