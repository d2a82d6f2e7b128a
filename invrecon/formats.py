"""What a file is, by its ending and its first bytes: known without torch, and before a model is loaded."""

import json
from pathlib import Path
from typing import Any, BinaryIO

from invrecon.errors import InputError

CHECKPOINT_ENDINGS = (".safetensors", ".sft")

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

DTYPES = ("float32", "float16", "bfloat16")  # of networks
_MAX_HEADER = 100 << 20  # bytes; what safetensors itself allows


def is_seed_file(path: Path) -> bool:
    """Whether a path is meant as a seed file, by its ending."""
    return path.suffix.lower() in CHECKPOINT_ENDINGS


def is_png(path: Path) -> bool:
    """Whether a file begins as a PNG does. Raises OSError where it can't be opened."""
    with path.open("rb") as file:
        return file.read(len(PNG_SIGNATURE)) == PNG_SIGNATURE


def check_seed_header(path: Path) -> None:
    """Looks at the first bytes of an input that is meant as a seed file; the rest is checked when it is read.

    Raises:
        InputError: it is none.
        OSError: it can't be opened.
    """
    with path.open("rb") as file:
        _check(file)


def seed_dtype(path: Path) -> str | None:
    """In what precision a seed file's network ran; None where the file is damaged or doesn't say."""
    try:
        with path.open("rb") as file:
            found = json.loads(_check(file)).get("dtype")
    except (InputError, OSError, ValueError, RecursionError, AttributeError):
        return None
    return found if found in DTYPES else None


def _check(file: BinaryIO) -> str:
    """The document in the header of a seed file."""
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
    return str(metadata["invrecon"])
