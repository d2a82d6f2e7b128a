"""What is loaded beside a checkpoint, LoRAs and learnt words: finding it, loading it, and what a seed file
says of it."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from invrecon.errors import ModelError, UsageError
from invrecon.formats import CHECKPOINT_ENDINGS
from invrecon.models.embedding import SDXL, Embedding
from invrecon.models.files import PICKLES
from invrecon.models.lora import Lora
from invrecon.models.single_file import LORA, OTHER_THINGS, SingleFile
from invrecon.settings.checkpoint import read_lora

Attachment = Lora | Embedding


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
    for number, one in enumerate(words):
        if any(one.word == other.word for other in words[:number]):
            raise ModelError(f"two learnt words are {one.word!r}: leave out {one.path}")
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
    found, cure = _told(file)
    if (lora and found != "a LoRA") or (not lora and (found == "a LoRA" or not _is_word(file))):
        raise ModelError(f"{path} is {found}, not {wanted}: {cure}")
    file.check_types()


def _told(file: SingleFile) -> tuple[str, str]:
    """What a file is, and what to do with it."""
    if any(re.search(LORA, name) for name in file.shapes):
        return "a LoRA", "give it with --lora"
    if file.holds("unet") or file.holds("transformer"):
        return "a checkpoint", "give it with --model"
    if _is_word(file):
        return "perhaps a learnt word", "give it with --embedding"
    for pattern, what, _ in OTHER_THINGS:
        if any(re.search(pattern, name) for name in file.shapes):
            return what, "leave it out"
    return f"of unknown kind ({next(iter(file.shapes), 'it is empty')})", "leave it out"


def _is_word(file: SingleFile) -> bool:
    return len(file.shapes) == 1 or file.shapes.keys() == SDXL.keys()
