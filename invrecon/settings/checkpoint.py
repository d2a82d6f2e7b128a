"""Which checkpoint is used, and what is loaded beside it."""

import re
from dataclasses import dataclass

from invrecon.errors import UsageError
from invrecon.settings.table import Group, documented, setting

_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(inf|infinity|nan)"


@documented
@dataclass(frozen=True)
class Checkpoint(Group):
    """Where the networks come from. Only a hub id, or a card that stands for one, is fetched."""

    title = "Model"

    model: str = setting(
        "mini",
        "A name of `invrecon models list`, a diffusers folder, a .safetensors file, or a hub id.",
        common=True,
    )
    revision: str = setting(
        "", "Branch, tag or commit of a hub id. Name a commit to get the same weights later."
    )
    variant: str = setting(
        "", "Variant of the weights of a hub id or folder. fp16, where there is one, is half the download."
    )
    base: str = setting(
        "",
        "Diffusers folder or hub id that a single file takes its configuration and missing parts from. "
        "Give it where a file isn't enough by itself.",
    )
    vae: str = setting(
        "", "Folder or .safetensors file of an autoencoder to use in place of the model's own."
    )
    lora: tuple[str, ...] = setting(
        (),
        "A LoRA to load onto the model, with its weight; 1 where none is given. Repeatable.",
        pattern_shown="FILE[:WEIGHT]",
    )
    embedding: tuple[str, ...] = setting(
        (), "A learnt word (textual inversion), to be used in prompts. Repeatable.", pattern_shown="FILE"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for text in self.lora:
            read_lora(text)


def read_lora(text: str) -> tuple[str, float]:
    """The file and the weight of "FILE[:WEIGHT]". Only a number after the last colon is a weight.

    Raises:
        UsageError: the weight isn't a number from -100 to 100.
    """
    file, colon, number = text.rpartition(":")
    if not colon or not re.fullmatch(_NUMBER, number, re.IGNORECASE):
        return text, 1.0
    if not -100 <= float(number) <= 100:
        raise UsageError(f"the weight of lora {file!r} must lie between -100 and 100, not {number}")
    return file, float(number)
