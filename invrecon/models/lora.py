"""LoRAs: changes of low rank to the weights of a checkpoint, each with a weight of its own."""

import json
import math
import shlex
from collections.abc import Mapping
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

METADATA = "lora_adapter_metadata"  # the key of diffusers' own metadata: peft's configuration as JSON
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
        """As a seed file holds it; `scales` where the file's metadata has any."""
        told = {"file": self.path.name, "sha256": digest((("", self.path),)), "weight": self.weight}
        return told if self.scales is None else told | {"scales": self.scales}

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
        with fitting(self.path, kind):
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
                f"have a place there; {OTHER}"
            )

    @cached_property
    def scales(self) -> dict[str, float | None] | None:
        """alpha / rank of each part, {"unet": 2.0}, where the file says them in diffusers' metadata, which
        other programs don't read; None for a part whose layers differ. None where there is no such metadata.
        """
        file = SingleFile.read(self.path)
        if METADATA not in file.metadata or any(name.endswith(".alpha") for name in file.shapes):
            return None
        try:
            table = json.loads(file.metadata[METADATA])
            parts = {name.partition(".")[0] for name in file.shapes}
            return {part: _scale(part, table) for part in sorted(parts)}
        except (ValueError, TypeError, AttributeError, ZeroDivisionError, RecursionError):
            return {"file": None}

    def __str__(self) -> str:
        return f"--lora {shlex.quote(f'{self.path}{suffix(self.weight)}')}"


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


def suffix(weight: float) -> str:
    """ ":0.8", or "" for 1."""
    return "" if weight == 1 else f":{weight!r}".removesuffix(".0")


def _scale(part: str, table: Mapping[str, Any]) -> float | None:
    own = {name.partition(".")[2]: value for name, value in table.items() if name.partition(".")[0] == part}
    odd = own.get("rank_pattern") or own.get("alpha_pattern") or own.get("use_rslora")
    scale = None if odd or "r" not in own else own["lora_alpha"] / own["r"]
    return scale if scale is not None and math.isfinite(scale) else None
