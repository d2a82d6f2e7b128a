"""What is loaded beside a checkpoint: LoRAs, and learnt words (textual inversion)."""

import math
import re
import shlex
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from invrecon.errors import ModelError, UsageError
from invrecon.formats import CHECKPOINT_ENDINGS
from invrecon.models.files import PICKLES, digest
from invrecon.models.identity import networks_of
from invrecon.models.parts import telling_line
from invrecon.models.quiet import quiet
from invrecon.models.single_file import LORA, OTHER_THINGS, SingleFile
from invrecon.settings.checkpoint import read_lora

NAMELESS = ("emb_params", "*")
"""Names of vectors in files that don't say their word."""
WIDE = {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}
"""The text encoders of SDXL, whose vectors lie in one file."""
_ADAPTER_METADATA = "lora_adapter_metadata"
_PAIRS = (("lora_up", "lora_down"), ("lora_B", "lora_A"), ("lora.up", "lora.down"))


@dataclass(frozen=True)
class Lora:
    """A LoRA with its weight.

    Args:
        path: of a .safetensors file.
        weight: by which its change is multiplied.
    """

    path: Path
    weight: float

    @property
    def noted(self) -> dict[str, Any]:
        """As a seed file holds it. "alphas": "metadata" where a part of its scale is said in the file's
        metadata, which other programs don't read."""
        told = {"file": self.path.name, "sha256": digest((("", self.path),)), "weight": self.weight}
        return told | ({"alphas": "metadata"} if _ADAPTER_METADATA in self._file.metadata else {})

    def attach(self, pipeline: Any, name: str) -> None:
        """Loads it by diffusers' own loader, as the adapter `name`, with weight 1.

        Raises:
            ModelError: it isn't finite, or not all of it has a place in this pipeline.
        """
        kind = type(pipeline).__name__
        if not hasattr(pipeline, "load_lora_weights"):
            raise ModelError(f"{kind} takes no LoRA: leave out --lora")
        weights = load_file(self.path)
        check_finite(self.path, weights)
        options = {"use_safetensors": True, "local_files_only": True}
        with _fitting(self.path, kind):
            if hasattr(pipeline, "unet"):
                source: Any = folded(weights) if len(folded(weights)) < len(weights) else str(self.path)
                expected = len(folded(weights))
            else:
                source = str(self.path)
                converted = pipeline.lora_state_dict(source, **options)
                expected = len(converted[0] if isinstance(converted, tuple) else converted)
            pipeline.load_lora_weights(source, adapter_name=name, **options)
        loaded = [
            value
            for part in networks_of(pipeline).values()
            for key, value in part.named_parameters()
            if f".{name}." in f"{key}."
        ]
        if len(loaded) != expected or any(value.is_meta for value in loaded):
            raise ModelError(
                f"{self.path} doesn't fit {kind}: {min(len(loaded), expected)} of its {expected} weights "
                f"have a place there; {_OTHER}"
            )

    @cached_property
    def _file(self) -> SingleFile:
        return SingleFile.read(self.path)

    def __str__(self) -> str:
        return f"--lora {shlex.quote(f'{self.path}{_suffix(self.weight)}')}"


@dataclass(frozen=True)
class Embedding:
    """The vectors of a learnt word, which prompts use under its name.

    Args:
        path: of a .safetensors file.
    """

    path: Path

    @cached_property
    def word(self) -> str:
        """The word that the file names; else the file's own name.

        Raises:
            ModelError: it has spaces, or can't be printed.
        """
        [first, *_] = SingleFile.read(self.path).shapes
        named = first not in (*NAMELESS, *WIDE)
        word = first if named else self.path.stem
        if not word.isprintable() or re.search(r"\s", word) or not word:
            cure = "save it under another word" if named else "rename the file"
            raise ModelError(f"{self.path} is for the word {word!r}, and a word has no spaces: {cure}")
        return word

    @property
    def noted(self) -> dict[str, Any]:
        """As a seed file holds it."""
        return {"file": self.path.name, "sha256": digest((("", self.path),)), "word": self.word}

    def attach(self, pipeline: Any) -> None:
        """Teaches the word to the text encoders, by diffusers' own loader.

        Raises:
            ModelError: the pipeline takes no such words, has this one already, or the vectors are of another
                width.
        """
        kind = type(pipeline).__name__
        if not hasattr(pipeline, "load_textual_inversion"):
            raise ModelError(f"{kind} takes no learnt words: leave out --embedding")
        vectors = load_file(self.path)
        check_finite(self.path, vectors)
        parts = {WIDE.get(name, "text_encoder"): value for name, value in vectors.items()}
        encoders = {name for name in networks_of(pipeline) if name.startswith("text_encoder")}
        if parts.keys() != encoders:
            raise ModelError(
                f"{self.path} has vectors for {' and '.join(sorted(parts))}, and {kind} has "
                f"{' and '.join(sorted(encoders)) or 'no text encoder'}: {_OTHER}"
            )
        for name, value in parts.items():
            encoder = getattr(pipeline, name)
            tokenizer = getattr(pipeline, name.replace("text_encoder", "tokenizer"))
            self._check(value, encoder, tokenizer, name)
            with _fitting(self.path, kind):
                pipeline.load_textual_inversion(
                    value, token=self.word, tokenizer=tokenizer, text_encoder=encoder
                )

    def _check(self, vectors: Tensor, encoder: Any, tokenizer: Any, name: str) -> None:
        width = encoder.get_input_embeddings().weight.shape[-1]
        if vectors.ndim not in (1, 2) or vectors.shape[-1] != width or not len(vectors):
            raise ModelError(
                f"{self.path} has vectors of the shape {list(vectors.shape)}, and the model's {name} takes "
                f"those of width {width}: {_OTHER}"
            )
        known = tokenizer.get_vocab()
        if taken := next((word for word in (self.word, f"{self.word}_1") if word in known), None):
            cure = (
                f"rename the file, to <{self.word}>.safetensors say"
                if self.word == self.path.stem
                else "save it under another word"
            )
            raise ModelError(f"{self.path}: the tokenizer has the word {taken!r} already: {cure}")

    def __str__(self) -> str:
        return f"--embedding {shlex.quote(str(self.path))}"


Attachment = Lora | Embedding
_OTHER = "it was made for another kind of model, or is damaged; leave it out, or name its model with --model"


def find(loras: Sequence[str], embeddings: Sequence[str]) -> tuple[Attachment, ...]:
    """The files that are to be loaded beside a checkpoint, in their order; learnt words come first.

    Args:
        loras: each "FILE[:WEIGHT]".
        embeddings: each a file.

    Raises:
        ModelError: one isn't there, isn't whole, isn't what it is given for, or is given twice.
        UsageError: a weight is no finite number.
    """
    words = [Embedding(path) for path in map(Path, embeddings)]
    adapters = [Lora(Path(file), weight) for file, weight in map(read_lora, loras)]
    seen: dict[str, Attachment] = {}
    given: tuple[Attachment, ...] = (*words, *adapters)
    for one in given:
        _check_file(one)
        key = one.noted["sha256"]
        if twice := seen.get(key):
            total = twice.weight + one.weight if isinstance(one, Lora) and isinstance(twice, Lora) else 0
            cure = Lora(twice.path, total) if total else twice
            raise UsageError(f"{one.path} is given twice: give it once, as {cure}")
        seen[key] = one
    if len({one.word for one in words}) < len(words):
        raise ModelError(f"two learnt words are {words[-1].word!r}: rename one of the files")
    return given


def attach(pipeline: Any, attachments: Sequence[Attachment]) -> None:
    """Loads attachments onto a pipeline in memory. Raises ModelError where one doesn't fit."""
    weights: dict[str, float] = {}
    for one in attachments:
        if isinstance(one, Lora):
            one.attach(pipeline, name := f"lora_{len(weights) + 1}")
            weights[name] = one.weight
        else:
            one.attach(pipeline)
    if weights:
        pipeline.set_adapters([*weights], [*weights.values()])


def noted(attachments: Sequence[Attachment]) -> dict[str, Any]:
    """As a seed file holds them: {"lora 1": {"file", "sha256", "weight"}, "embedding 1": {...}}."""
    table: dict[str, Any] = {}
    for one in attachments:
        kind = type(one).__name__.lower()
        number = 1 + sum(name.startswith(kind) for name in table)
        table[f"{kind} {number}"] = one.noted
    return table


def options(table: Mapping[str, Any]) -> str:
    """What to give on the command line for attachments that a seed file holds; "" for none."""
    told = []
    for one in table.values():
        if not isinstance(one, Mapping) or "file" not in one:
            continue
        if "word" in one:
            told.append(str(Embedding(Path(one["file"]))))
        else:
            told.append(str(Lora(Path(one["file"]), one["weight"])))
    return " ".join(told)


def folded(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A LoRA's weights with each layer's factor alpha / rank multiplied into its upper matrix, and no alphas:
    diffusers 0.42 takes the alphas of files whose layers differ in them for others.
    """
    table = dict(weights)
    for name, alpha in weights.items():
        layer, _, what = name.rpartition(".")
        for up, down in _PAIRS if what == "alpha" and alpha.numel() == 1 else ():
            upper, lower = f"{layer}.{up}.weight", f"{layer}.{down}.weight"
            if upper in weights and lower in weights:
                table[upper] = weights[upper].float() * (alpha.item() / len(weights[lower]))
                del table[name]
    return table


def check_finite(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Raises ModelError where a weight isn't a finite number."""
    for name, value in weights.items():
        if value.is_floating_point() and not math.isfinite(value.float().abs().sum().item()):
            raise ModelError(
                f"{path} has weights that aren't finite ({name}): the file is damaged; fetch it again"
            )


def _check_file(one: Attachment) -> None:
    lora, path = isinstance(one, Lora), one.path
    wanted = "a LoRA" if lora else "a learnt word"
    if path.suffix.lower() in PICKLES:
        raise ModelError(
            f"{path} is a pickle, which could run code, and isn't opened: where you trust it, load it with "
            "torch and save its tensors with safetensors.torch.save_file"
        )
    if path.suffix.lower() not in CHECKPOINT_ENDINGS or not path.is_file():
        raise ModelError(f"no .safetensors file {path}: give {wanted} by its path")
    file = SingleFile.read(path)
    kind = next((what for pattern, what, _ in OTHER_THINGS if _has(file, pattern)), "")
    if lora and not _has(file, LORA):
        whole = "a checkpoint" if file.holds("unet") or file.holds("transformer") else ""
        known = kind or whole or f"of unknown kind ({next(iter(file.shapes), 'empty')})"
        raise ModelError(f"{path} is {known}, not a LoRA: leave it out of --lora")
    if not lora and len(file.shapes) != 1 and file.shapes.keys() != WIDE.keys():
        raise ModelError(f"{path} is {kind or 'of unknown kind'}, not one learnt word: leave it out")
    file.check_types()


def _has(file: SingleFile, pattern: str) -> bool:
    return any(re.search(pattern, name) for name in file.shapes)


def _suffix(weight: float) -> str:
    return "" if weight == 1 else f":{weight!r}".removesuffix(".0")


@contextmanager
def _fitting(path: Path, kind: str) -> Iterator[None]:
    """Turns whatever the libraries raise where a file doesn't fit a pipeline into one line."""
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # peft, diffusers and torch each raise their own
        raise ModelError(f"{path} doesn't fit {kind} ({telling_line(error):.120}): {_OTHER}") from error
