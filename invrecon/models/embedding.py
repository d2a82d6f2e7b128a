"""Learnt words (textual inversion): vectors of the text encoders, under a name that prompts use."""

import re
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from invrecon.errors import ModelError
from invrecon.models.files import digest
from invrecon.models.fitting import OTHER, check_finite, fitting
from invrecon.models.identity import networks_of
from invrecon.models.single_file import SingleFile

NAMELESS = ("emb_params", "*")
"""Names of vectors in files that don't say their word."""
SDXL = {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}
"""The text encoders of SDXL, whose vectors lie in one file."""


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
        named = first not in (*NAMELESS, *SDXL)
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
        parts = {SDXL.get(name, "text_encoder"): value for name, value in vectors.items()}
        encoders = {name for name in networks_of(pipeline) if name.startswith("text_encoder")}
        if parts.keys() != encoders:
            raise ModelError(
                f"{self.path} has vectors for {' and '.join(sorted(parts))}, and {kind} has "
                f"{' and '.join(sorted(encoders)) or 'no text encoder'}: {OTHER}"
            )
        for name, value in parts.items():
            encoder = getattr(pipeline, name)
            tokenizer = getattr(pipeline, name.replace("text_encoder", "tokenizer"))
            self._check(value, encoder, tokenizer, name)
            with fitting(self.path, kind):
                pipeline.load_textual_inversion(
                    value, token=self.word, tokenizer=tokenizer, text_encoder=encoder
                )

    def _check(self, vectors: Tensor, encoder: Any, tokenizer: Any, name: str) -> None:
        width = encoder.get_input_embeddings().weight.shape[-1]
        if vectors.ndim not in (1, 2) or vectors.shape[-1] != width or not len(vectors):
            raise ModelError(
                f"{self.path} has vectors of the shape {list(vectors.shape)}, and the model's {name} takes "
                f"those of width {width}: {OTHER}"
            )
        longest = tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()
        if len(vectors.reshape(-1, width)) > longest:
            raise ModelError(
                f"{self.path} has {len(vectors)} vectors, and a prompt has at most {longest}: leave it out"
            )
        known, word = tokenizer.get_vocab(), self.word
        same = (word, f"{word}_1", f"{word}</w>", f"{word.lower()}</w>")
        if any(one in known for one in same):
            cure = (
                f"rename the file, to <{self.word}>.safetensors say"
                if self.word == self.path.stem
                else "save it under another word"
            )
            raise ModelError(f"{self.path}: the tokenizer has the word {word!r} already: {cure}")

    def __str__(self) -> str:
        return f"--embedding {shlex.quote(str(self.path))}"
