"""Where a checkpoint lies on disk, whether it is whole and safe to open, and opening it."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from invrecon.errors import ModelError
from invrecon.models.quiet import quiet

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
HOW_TO_CONVERT = "convert it where you trust it: load it with diffusers and save_pretrained(folder), which writes safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """Weights in safetensors: a folder in the diffusers layout, or a single file.

    Args:
        name: as the user knows it.
        path: of the folder or file.
        variant: of the weights' names ("fp16"), "" for those without.
        base: for a single file, the diffusers folder that its configuration and tokenizers come from.
    """

    name: str
    path: Path
    variant: str = ""
    base: Path | None = None

    @property
    def folder(self) -> Path:
        """Where model_index.json is."""
        return self.base or self.path

    @property
    def kind(self) -> str:
        """The pipeline class that model_index.json names.

        Raises:
            ModelError: it can't be read.
        """
        return str(self._index().get("_class_name"))

    def open(self, pipeline: Any, dtype: str) -> Any:
        """The pipeline on the CPU, all parts in `dtype`; safetensors only, no network, no code but diffusers' own.

        Args:
            pipeline: a pipeline class of diffusers.

        Raises:
            ModelError: a part is missing, damaged, pickled or of another kind.
        """
        self.check()
        options: dict[str, Any] = {
            "torch_dtype": getattr(torch, dtype),
            "use_safetensors": True,
            "local_files_only": True,
        }
        options |= dict.fromkeys(
            (
                part
                for part, owner in self._index().items()
                if owner == [None, None] or part == "safety_checker"
            )
        )
        try:
            with quiet():
                if self.base:
                    with _as_safetensors(self.path) as file:
                        return pipeline.from_single_file(str(file), config=str(self.base), **options)
                return pipeline.from_pretrained(self.path, variant=self.variant or None, **options)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, ImportError) as error:
            raise ModelError(f"can't load the model {self.name}: {_first_line(error)}") from error

    def check(self) -> None:
        """Raises ModelError where a part that model_index.json names is missing, or has pickled weights only."""
        for part, owner in self._index().items():
            if (
                part.startswith("_")
                or part == "safety_checker"
                or not isinstance(owner, list)
                or owner[0] is None
            ):
                continue
            if owner[0] not in ("diffusers", "transformers"):
                raise ModelError(
                    f"can't load the model {self.name}: {part} is code of its own ({owner[0]}), which isn't run"
                )
            folder = self.folder / part
            if not folder.is_dir():
                raise ModelError(
                    f"can't load the model {self.name}: model_index.json names {part}, but there is no folder {folder}"
                )
            pickled = [path.name for path in folder.iterdir() if path.suffix in PICKLES]
            if pickled and not self.base and not list(folder.glob("*.safetensors")):
                raise ModelError(
                    f"{folder} has pickled weights only ({pickled[0]}), which could run code: {HOW_TO_CONVERT}"
                )

    def fingerprint(self, parts: tuple[str, ...]) -> str:
        """SHA-256 over the names and bytes of the weight files that `open` loads."""
        if self.base:
            return _digest((self.path,), labelled=False)
        return _digest(
            tuple(sorted(path for part in parts for path in self._weights(self.path / part))), labelled=True
        )

    def _weights(self, folder: Path) -> list[Path]:
        files = list(folder.glob("*.safetensors"))
        return [path for path in files if self.variant and f".{self.variant}" in path.stem] or [
            path for path in files if "." not in path.stem
        ]

    def _index(self) -> dict[str, Any]:
        try:
            index = json.loads((self.folder / "model_index.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(
                f"can't load the model {self.name}: {self.folder / 'model_index.json'} can't be read: {_first_line(error)}"
            ) from error
        if not isinstance(index, dict):
            raise ModelError(
                f"can't load the model {self.name}: {self.folder / 'model_index.json'} is not a JSON object"
            )
        return index


@cache
def _digest(files: tuple[Path, ...], labelled: bool) -> str:
    """SHA-256 over files, and over part and name of each if `labelled`; read once a process, since it may be many gigabytes."""
    digest = hashlib.sha256()
    for path in files:
        if labelled:
            digest.update(f"{path.parent.name}/{path.name}".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def _as_safetensors(path: Path) -> Iterator[Path]:
    """The file under a name by which diffusers takes it for what it is; another ending would be unpickled."""
    if path.suffix == ".safetensors":
        yield path
        return
    with TemporaryDirectory() as folder:
        link = Path(folder) / f"{path.stem}.safetensors"
        link.symlink_to(path.resolve())
        yield link
