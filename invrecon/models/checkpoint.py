"""A checkpoint on disk: whether it is whole and safe to open, what identifies it, and opening it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from invrecon.errors import ModelError
from invrecon.models.attachments import Attachment, attach
from invrecon.models.checks import check_scheduler
from invrecon.models.files import (
    HOW_TO_CONVERT,
    check_fetched,
    digest,
    has_variant,
    pickled_files,
    read_json,
    weight_files,
)
from invrecon.models.parts import class_of, from_file, from_folder, is_network, told
from invrecon.models.quiet import quiet
from invrecon.models.single_file import SingleFile
from invrecon.models.tokenizers import LAYOUTS, bundled_tokenizer

UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
"""Parts that have no say in drawing from text, and are not loaded."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights in safetensors: a folder in the diffusers layout, or a single file.

    Args:
        name: as the user knows it.
        path: of the folder or file.
        variant: of the weights' names ("fp16"), "" for those without.
        base: for a single file, the diffusers folder that its configuration, tokenizers and missing parts
            come from.
        vae: a folder or a .safetensors file with another autoencoder, which takes the place of the
            checkpoint's own.
        attachments: what is loaded onto it, in this order.
    """

    name: str
    path: Path
    variant: str = ""
    base: Path | None = None
    vae: Path | None = None
    attachments: tuple[Attachment, ...] = ()

    @property
    def folder(self) -> Path:
        """Where model_index.json is."""
        return self.base or self.path

    @property
    def kind(self) -> str:
        """The pipeline class that model_index.json names.

        Raises:
            ModelError: it can't be read, or names none.
        """
        if not isinstance(kind := self._index.get("_class_name"), str):
            raise ModelError("its model_index.json names no _class_name: fetch it again")
        return kind

    def open(self, pipeline: Any, dtype: str) -> Any:
        """The pipeline on the CPU, all parts in `dtype`; safetensors only, no network, no code but
        diffusers' own.

        Args:
            pipeline: a pipeline class of diffusers.

        Raises:
            ModelError: a part is missing, incomplete, damaged, pickled or of another kind.
        """
        self.check()
        parts: dict[str, Any] = dict.fromkeys(
            part for part in self._index if part in UNUSED or part in self.left_out
        )
        for part, owner in self.parts.items():
            if is_network(*owner):
                with told(f"{self.name}: its {part}"), quiet():
                    parts[part] = self._load(part, class_of(*owner), getattr(torch, dtype))
            elif tokenizer := bundled_tokenizer(self.folder / part):
                parts[part] = tokenizer
        with told(f"{self.name}: its scheduler"):
            check_scheduler(read_json(self.folder / "scheduler" / "scheduler_config.json"))
        with told(f"{self.name}: its scheduler or tokenizer"), quiet():
            opened = pipeline.from_pretrained(self.folder, local_files_only=True, **parts)
        if self.file:
            with quiet():
                opened.scheduler = self.file.corrected(opened.scheduler, guess=self.folder.parent == LAYOUTS)
        attach(opened, self.attachments)
        return opened

    @cached_property
    def file(self) -> SingleFile | None:
        """What a single file says of itself; None for a folder."""
        return SingleFile.read(self.path) if self.base else None

    @property
    def left_out(self) -> set[str]:
        """Parts that model_index.json says there are none of."""
        return {part for part, owner in self._index.items() if owner == [None, None]}

    @cached_property
    def parts(self) -> dict[str, tuple[str, str]]:
        """(library, class name) of each part that model_index.json names and that is used.

        Raises:
            ModelError: an entry names no class, or code of the checkpoint's own.
        """
        found = {}
        for part, owner in self._index.items():
            if part.startswith("_") or part in UNUSED or owner == [None, None]:
                continue
            if not isinstance(owner, list) and not (self.folder / part).is_dir():
                continue  # a setting
            named = isinstance(owner, list) and all(isinstance(word, str) for word in owner)
            if not named or len(owner) != 2:
                raise ModelError(
                    f"can't load the model {self.name}: model_index.json names no class for {part}"
                )
            if owner[0] not in ("diffusers", "transformers"):
                raise ModelError(
                    f"can't load the model {self.name}: {part} is code of its own ({owner[0]}), which "
                    "isn't run"
                )
            found[part] = (owner[0], owner[1])
        return found

    def check(self) -> None:
        """Raises ModelError where a part that model_index.json names is missing, or has pickled weights
        only."""
        networks = []
        for part, owner in self.parts.items():
            with told(f"{self.name}: its {part}"):
                networks += [part] if is_network(*owner) else []
            folder = self.folder / part
            if not folder.is_dir():
                raise ModelError(
                    f"can't load the model {self.name}: model_index.json names {part}, but there is no "
                    f"folder {folder}"
                )
            if part in networks and not self._elsewhere(part):
                self._check_weights(folder)
            with told(f"{self.name}: its {part}"):
                for path in folder.iterdir():
                    if path.suffix in (".json", ".txt", ".model"):
                        check_fetched(path)
        folders = [self.folder / part for part in networks if not self._elsewhere(part)]
        if self.variant and folders and not any(has_variant(folder, self.variant) for folder in folders):
            raise ModelError(
                f"can't load the model {self.name}: it has no weights of the variant {self.variant}"
            )

    def fingerprint(self, parts: tuple[str, ...]) -> str:
        """SHA-256 over the names and bytes of the weight files that `open` loads."""
        return digest(tuple(file for files in self.sources(parts).values() for file in files))

    def sources(self, parts: tuple[str, ...]) -> dict[str, tuple[tuple[str, Path], ...]]:
        """(label, path) of the weight files of each part; those in a single file are together under
        "file"."""
        found: dict[str, tuple[tuple[str, Path], ...]] = {"file": (("", self.path),)} if self.base else {}
        for part in sorted(parts):
            if part == "vae" and self.vae:
                files = [self.vae] if self.vae.is_file() else weight_files(self.vae, "")
            elif self._elsewhere(part):
                continue
            else:
                files = weight_files(self.folder / part, self.variant)
            found[part] = tuple((f"{part}/{path.name}", path) for path in files)
        return found

    def _elsewhere(self, part: str) -> bool:
        """Whether a part's weights aren't in the folder of that name."""
        return bool((part == "vae" and self.vae) or (self.file and self.file.holds(part)))

    def open_autoencoder(self, dtype: torch.dtype = torch.float32) -> Any:
        """The autoencoder in the folder `vae`, by itself. Raises ModelError where it can't be loaded."""
        assert self.vae
        self._check_weights(self.vae)
        kind = str(read_json(self.vae / "config.json").get("_class_name"))
        return from_folder(class_of("diffusers", kind), self.vae, dtype)

    def _load(self, part: str, kind: Any, dtype: torch.dtype) -> Any:
        folder = self.folder / part
        if part == "vae" and self.vae:
            if self.vae.is_file():
                return from_file(part, kind, folder, SingleFile.read(self.vae), dtype)
            return self.open_autoencoder(dtype)
        if self.file and self.file.holds(part):
            return from_file(part, kind, folder, self.file, dtype)
        return from_folder(kind, folder, dtype, self.variant if has_variant(folder, self.variant) else "")

    def _check_weights(self, folder: Path) -> None:
        if weight_files(folder, self.variant):
            return
        if self.base:
            raise ModelError(
                f"can't load the model {self.name}: it has no {folder.name}, and neither has {self.base}: "
                f"name with --base a diffusers folder or hub id that has one"
            )
        if pickled := pickled_files(folder):
            raise ModelError(
                f"{folder} has pickled weights only ({pickled[0].name}), which could run code: "
                f"{HOW_TO_CONVERT}"
            )
        others = sorted(
            {path.stem.partition(".")[2].partition("-")[0] for path in folder.glob("*.safetensors")}
        )
        cure = f": use --variant {others[0]}" if others else ""
        raise ModelError(f"can't load the model {self.name}: {folder} has no weights in safetensors{cure}")

    @cached_property
    def _index(self) -> dict[str, Any]:
        return read_json(self.folder / "model_index.json")
