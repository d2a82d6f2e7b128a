"""The tokenizers of a pipeline; and CLIP's, for single files, which hold weights alone."""

import lzma
from functools import cache
from pathlib import Path
from typing import Any

from invrecon.models.files import read_json

LAYOUTS = Path(__file__).parent / "layouts"
"""Folders in the diffusers layout, without weights: the configuration of Stable Diffusion 1, 2 and XL."""


def tokenizers_of(pipeline: Any) -> dict[str, Any]:
    """The tokenizers of a pipeline by the names of its parts; where a part prepares pictures too (FLUX.2's
    processor), the one that it holds."""
    parts = pipeline.components.items()
    found = {name: getattr(part, "tokenizer", part) for name, part in parts if name.startswith("tokenizer")}
    return {name: tokenizer for name, tokenizer in found.items() if hasattr(tokenizer, "get_vocab")}


def bundled_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder of `LAYOUTS`; None for any other folder."""
    if folder.parent.parent != LAYOUTS or not folder.name.startswith("tokenizer"):
        return None
    from transformers import CLIPTokenizer

    vocabulary, merges = clip_vocabulary()
    options = read_json(folder / "tokenizer_config.json")
    return CLIPTokenizer(vocab=dict(vocabulary), merges=list(merges), **options)


@cache
def clip_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """(ids by token, merges) of CLIP's byte pair encoding, as openai/CLIP's SimpleTokenizer makes them of
    its merges:
    256 bytes, the same at a word's end, one token for each merge, and the two special ones; 49,408 in all."""
    lines = lzma.decompress((LAYOUTS / "clip_merges.txt.xz").read_bytes()).decode().splitlines()
    merges = [(left, right) for left, _, right in (line.partition(" ") for line in lines)]
    tokens = [*(letters := _byte_letters()), *(f"{letter}</w>" for letter in letters)]
    tokens += [left + right for left, right in merges] + ["<|startoftext|>", "<|endoftext|>"]
    return {token: index for index, token in enumerate(tokens)}, merges


def _byte_letters() -> list[str]:
    """A printable letter for each of 256 bytes, in CLIP's order: those that print stand for themselves."""
    printing = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    return [*map(chr, printing), *(chr(256 + n) for n in range(256 - len(printing)))]
