"""What a file is, by its ending and its first bytes: known without torch, and before a model is loaded."""

import json
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from invrecon.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

# Plain raster formats only: Pillow's others start programs (EPS) or are too rarely used to be well tested.
_PICTURES = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "MPO": (".mpo",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm"),
    "AVIF": (".avif",),
    "TGA": (".tga",),
}
PICTURE_ENDINGS = frozenset(ending for endings in _PICTURES.values() for ending in endings)
CHECKPOINT_ENDINGS = (".safetensors", ".sft")

_MAX_HEADER = 100 << 20  # bytes; what safetensors itself allows


def is_seed_file(path: Path) -> bool:
    """Whether a path is meant as a seed file, by its ending."""
    return path.suffix.lower() == ".safetensors"


def open_picture(file: BinaryIO) -> "Image":
    """A picture of a known format, its pixels not yet read. Raises what Pillow raises."""
    from PIL import Image

    Image.init()
    return Image.open(file, formats=[name for name in _PICTURES if name in Image.OPEN])


def not_a_picture(file: BinaryIO) -> InputError:
    """The error of a file that Pillow doesn't know."""
    if file.seek(0, os.SEEK_END) == 0:
        return InputError("is empty; get a fresh copy")
    return InputError("isn't a picture that can be read; save it as PNG or JPEG first")


def check_header(path: Path) -> None:
    """Looks at the first bytes of an input. What else may be wrong with it is seen when it is read.

    Raises:
        InputError: it is neither a picture nor a seed file.
        OSError: it can't be opened.
    """
    from PIL import UnidentifiedImageError

    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd files
        if is_seed_file(path):
            _check_seed(file)
            return
        try:
            open_picture(file)
        except UnidentifiedImageError as error:
            raise not_a_picture(file) from error
        except Exception:  # a damaged file can make a decoder raise anything; reading it tells what
            return


def _check_seed(file: BinaryIO) -> None:
    size = int.from_bytes(file.read(8), "little")
    header: Any = None
    if size <= _MAX_HEADER:
        try:
            header = json.loads(file.read(size))
        except (ValueError, RecursionError):
            header = None
    if not isinstance(header, dict):
        raise InputError("not a whole safetensors file; get a fresh copy")
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or "invrecon" not in metadata:
        raise InputError("a safetensors file, but not a seed file of invrecon")
