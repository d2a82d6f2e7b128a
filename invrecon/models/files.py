"""The files of a checkpoint: which of them hold weights, their digest, their JSON."""

import hashlib
import json
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from invrecon.errors import ModelError

POINTER = b"version https://git-lfs"
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
HOW_TO_CONVERT = (
    "convert it where you trust it: load it with diffusers and save_pretrained(folder), "
    "which writes safetensors"
)


def weight_files(folder: Path, variant: str) -> list[Path]:
    """The safetensors files of a part that are loaded: those of the variant, or else those of none;
    sorted."""
    files = sorted(folder.glob("*.safetensors"))
    return [path for path in files if variant and f".{variant}" in path.stem] or [
        path for path in files if "." not in path.stem
    ]


def has_variant(folder: Path, variant: str) -> bool:
    """Whether a part has weights of a variant."""
    return bool(variant) and any(f".{variant}" in path.stem for path in folder.glob("*.safetensors"))


def pickled_files(folder: Path) -> list[Path]:
    """The files of a part that could hold code, which are never opened; sorted."""
    return sorted(path for path in folder.iterdir() if path.suffix in PICKLES)


def check_fetched(path: Path) -> None:
    """Raises ModelError where a file is what Git leaves in the place of one that Git LFS keeps."""
    with suppress(OSError), path.open("rb") as file:
        if file.read(len(POINTER)) == POINTER:
            raise ModelError(f"{path} is a Git LFS pointer, not the file: run git lfs pull in its folder")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises ModelError where the file can't be read, or holds none."""
    check_fetched(path)
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        reason = "it begins with a byte order mark" if "BOM" in str(error) else error
        cure = "save it anew as UTF-8, or fetch it again"
        raise ModelError(f"{path} can't be read ({reason}): {cure}") from error
    if not isinstance(table, dict):
        raise ModelError(f"{path} is not a JSON object")
    return table


def digest(files: tuple[tuple[str, Path], ...]) -> str:
    """SHA-256 over labels and bytes of files; read once, since it may be many gigabytes, and again where
    they changed.

    Args:
        files: (label, path) of each; "" for no label.
    """
    stats = [path.stat() for _, path in files]
    return _digest(files, tuple((stat.st_size, stat.st_mtime_ns) for stat in stats))


@cache
def _digest(files: tuple[tuple[str, Path], ...], _state: tuple[tuple[int, int], ...]) -> str:
    sha = hashlib.sha256()
    for label, path in files:
        sha.update(label.encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                sha.update(block)
    return sha.hexdigest()
