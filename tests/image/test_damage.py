"""Damaged files load or are refused."""

import random

import pytest
from PIL import Image

from invrecon.errors import InputError
from tests.image.files import EXACT, LOSSY, check_message, encoded, load, picture, swapped_profile


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
