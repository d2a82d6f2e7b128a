"""Damages small files of every format and loads them; each must give a photo or an error of one line.

python -m tests.image.damage SEED COUNT prints a line for each fault and, last, what became of the files.
"""

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from PIL import Image

from invrecon.errors import InputError
from invrecon.image import is_photo_file, load_photo
from tests.image.files import EXACT, LOSSY, chunk, encoded, picture, png, swapped_profile

MAX_GIGABYTES = 2.5  # of memory; a header may promise 100 megapixels


def originals():
    """Whole files of every format, mode and kind of extra."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a caption"
    icc = swapped_profile()
    clear = picture()
    clear.putalpha(clear.getchannel("R"))
    both = {"exif": exif, "icc_profile": icc}
    files = [encoded(picture(), name) for name in EXACT + LOSSY]
    files += [
        encoded(picture(mode=mode), "TIFF", compression="tiff_lzw")
        for mode in ("1", "L", "CMYK", "YCbCr", "LAB", "I", "F", "I;16")
    ]
    files += [encoded(picture(), "TIFF", compression=name) for name in ("tiff_deflate", "packbits", "jpeg")]
    files += [encoded(picture(), "JXL", exif=exif), encoded(picture(), "JXL", lossless=True)]
    files += [encoded(picture(), name, **both) for name in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF")]
    files += [
        encoded(clear, name) for name in ("PNG", "WEBP", "TGA", "TIFF", "AVIF", "HEIF", "JXL", "JPEG2000")
    ]
    files += [encoded(picture(mode="P"), name, transparency=3) for name in ("PNG", "GIF")]
    files += [encoded(picture(), "JPEG", progressive=True), encoded(picture(mode="CMYK"), "JPEG")]
    files += [encoded(picture(mode=mode), "PNG", transparency=3) for mode in ("L", "I;16")]
    files += [encoded(picture(mode="I"), "PPM"), encoded(picture(mode="I;16"), "JPEG2000")]
    files += [
        encoded(picture(), name, save_all=True, append_images=[Image.new("RGB", (40, 30))])
        for name in ("GIF", "WEBP", "PNG", "AVIF", "MPO", "TIFF", "HEIF")
    ]
    files += [encoded(picture((140, 130)), "HEIF", tile_size=64), encoded(picture(), "JPEG2000", no_jp2=True)]
    colours = (b"gAMA", bytes(3) + b"\1"), (b"cHRM", bytes(range(32))), (b"cICP", b"\x0c\x0d\0\1")
    files.append(png((2, 1), 16, 6, [bytes(range(16))], *(chunk(*one) for one in colours)))
    return files


def damaged(data, rng):
    """`data` with some bytes changed, cut out, doubled or swapped, or with its end cut off."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(rng.choice((min(200, len(data)), len(data))))
        length = rng.choice((1, 1, 2, 8))
        same_length = (rng.randbytes(length), b"\0" * length, b"\xff" * length)
        data[at : at + length] = rng.choice((*same_length * 3, b"", data[at : at + length] * 2))
    kind = rng.randrange(8)
    if kind == 0:
        del data[rng.randrange(len(data)) :]
    elif kind == 1:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 2:
        size = rng.choice((4, 64, 512))
        a, b = (rng.randrange(len(data)) for _ in range(2))
        data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]
    return bytes(data) or b"\0"


def fault(path):
    """What is wrong with how a damaged file is taken, and "loaded" or "refused"."""
    header = is_photo_file(path)
    try:
        photo = load_photo(path)
    except InputError as error:
        text = str(error)
        sound = text.startswith(f"{path}: ") and text.isprintable() and len(text) < 800
        return None if sound else f"not a line: {text!r}", "refused"
    except BaseException as error:
        return f"raised {error!r}", "refused"
    if photo.rgb.mode != "RGB" or (
        photo.alpha and (photo.alpha.mode, photo.alpha.size) != ("L", photo.rgb.size)
    ):
        return "wrong mode or size", "loaded"
    return None if header else "loaded, but is_photo_file denies it", "loaded"


def peak_gigabytes():
    """Of this process; 0 where that can't be told."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def main(seed, count):
    files, ends = originals(), Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo"
        for number in range(count):
            rng = random.Random(f"{seed} {number}")
            path.write_bytes(damaged(rng.choice(files), rng))
            wrong, end = fault(path)
            ends[end] += 1
            if wrong:
                ends["wrong"] += 1
                print(f"{number}: {wrong}")
    if peak_gigabytes() > MAX_GIGABYTES:
        ends["wrong"] += 1
    print(f"{dict(ends)}, {peak_gigabytes():.2f} GB")
    return ends["wrong"] > 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
