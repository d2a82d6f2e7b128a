"""Photos as they are meant to be seen: upright, in sRGB."""

import hashlib
import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags, Image, UnidentifiedImageError

from invrecon.errors import InputError, printable
from invrecon.image.colour import to_srgb
from invrecon.image.containers import MAX_MEGAPIXELS, read_header
from invrecon.muted import muted

# EXIF orientation -> what turns the stored picture upright
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Photo:
    """A photo as it is meant to be seen.

    Args:
        path: of its file.
        rgb: upright, in sRGB and in mode RGB, with its transparent pixels laid on white.
        alpha: mode L, same size; None where the photo is opaque.
        sha256: the hash of the file's bytes, in hexadecimal.
        note: what else the file holds, such as "is an animation, of which the first frame is used", or None.
    """

    path: Path
    rgb: Image.Image
    alpha: Image.Image | None
    sha256: str
    note: str | None = None


def load_photo(path: Path) -> Photo:
    """The photo in the file `path`, of any common format, colour mode and depth.

    `containers` says which picture of a file that is. Sizes run from 1 x 1 to 100 megapixels; larger ones are
    refused before they are decoded. Grey of 16 bits or more is scaled to 8 bits. A broken colour profile or
    EXIF block is ignored.

    Raises:
        InputError: the file is missing, unreadable, damaged, too large or no picture; one line with its name.
    """
    try:
        if path.is_dir():
            raise InputError("is a folder; give the photos in it instead")
        if path.exists() and not path.is_file():
            raise InputError("isn't a regular file; copy the photo into one first")
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd files; what matters raises
            image, note = _decode(file)
            rgb, alpha = to_srgb(_upright(image))
            return Photo(path, rgb, alpha, _sha256(file), note)
    except InputError as error:
        raise InputError(f"{printable(path)}: {error}") from error.__cause__
    except MemoryError as error:
        raise InputError(f"{printable(path)}: doesn't fit into memory; scale it down first") from error
    except (OSError, ValueError) as error:
        raise InputError(
            f"{printable(path)}: can't be read ({_cause(error)}); check its name and permissions"
        ) from error


def check_photo_file(path: Path) -> None:
    """Looks at the header of a picture, without decoding it. What may be wrong with the pixels is seen by
    `load_photo`.

    Raises:
        InputError: the file holds no picture that `load_photo` takes; the message doesn't name it.
        OSError: it can't be opened.
    """
    if path.exists() and not path.is_file():  # opening a pipe would wait for its writer
        raise InputError("isn't a regular file; copy the photo into one first")
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd files
        with _explained(file):
            read_header(file)


def is_photo_file(path: Path) -> bool:
    """Whether a path is that of a file which passes `check_photo_file`."""
    try:
        check_photo_file(path)
    except (InputError, OSError, ValueError):  # ValueError: a name that no file can have
        return False
    return True


def _decode(file: BinaryIO) -> tuple[Image.Image, str | None]:
    with _explained(file):
        header = read_header(file)
        return header.decode(), header.note


@contextmanager
def _explained(file: BinaryIO) -> Iterator[None]:
    """Turns whatever a decoder raises on a file into an InputError, but for what memory is too small for."""
    try:
        with _without_messages(file):
            yield
    except (InputError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        empty = file.seek(0, os.SEEK_END) == 0
        raise InputError(
            "is empty; get a fresh copy"
            if empty
            else "isn't a picture that can be read; save it as PNG or JPEG first"
        ) from error
    except Image.DecompressionBombError as error:
        raise InputError(f"has more than {MAX_MEGAPIXELS} megapixels; scale it down first") from error
    except Exception as error:  # a damaged file can make a decoder raise anything
        raise InputError(
            f"can't be decoded ({_cause(error)}) and may be damaged; get a fresh copy or save it as PNG first"
        ) from error


def _without_messages(file: BinaryIO) -> AbstractContextManager[None]:
    """Keeps libtiff from telling stderr, from C, what is wrong with a file."""
    is_tiff = file.read(2) in (b"II", b"MM")
    file.seek(0)
    return muted() if is_tiff else nullcontext()


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(2**20):
        digest.update(block)
    return digest.hexdigest()


def _upright(image: Image.Image) -> Image.Image:
    """HEIF, AVIF and JPEG XL are turned by their decoders, which leave no other EXIF orientation than 1."""
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged EXIF block can raise anything too, yet the pixels are sound
        turn = None
    return image if turn is None else image.transpose(turn)


def _cause(error: Exception) -> str:
    return printable(getattr(error, "strerror", None) or str(error).strip() or type(error).__name__)
