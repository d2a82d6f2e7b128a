"""What hangs on the networks of a live pipeline and is said neither by their weights nor by their
configuration."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from invrecon.errors import ModelError
from invrecon.models.attachments import noted
from invrecon.models.checkpoint import Checkpoint
from invrecon.models.identity import differences, networks_of

_FREEU = ("s1", "s2", "b1", "b2")
_NO_SAY = ("training", "slice_size")  # attributes of attention processors that change no picture
_DIGITS = 9


class Attachments:
    """The files that were loaded onto a checkpoint; else what is attached to a live pipeline."""

    def __init__(self, pipeline: Any, checkpoint: Checkpoint | None) -> None:
        self.pipeline = pipeline
        self.files = noted(checkpoint.attachments) if checkpoint else None
        self.at_first = self.files if self.files is not None else attached(pipeline)

    def told(self) -> dict[str, Any]:
        """As a seed file holds them.

        Raises:
            ModelError: those of a live pipeline have changed; prompts may be encoded under the old ones.
        """
        now = self.files if self.files is not None else attached(self.pipeline)
        if changed := differences({"attachments": self.at_first}, {"attachments": now}):
            field, before, after = changed[0]
            raise ModelError(
                f"the pipeline's {field} was {before} when the model was made, and is {after} now: make the "
                "model anew, by Model.from_pipeline"
            )
        return now


def attached(pipeline: Any) -> dict[str, Any]:
    """Adapters (peft) with their weights, attention processors with their scales (IP-Adapter), FreeU, and the
    layers of perturbed attention (PAG), as JSON; the weights of all of these count as weights of their part.

    Returns:
        {part: {"adapters": {name: weight, or "fused"}, "processors": {class: {attribute: value}},
        "freeu": {factor: value}}, "pipeline": {"pag_applied_layers": [...]}}, of what there is. Where layers
        differ in a value, SHA-256 of all of them is in its place.
    """
    found: dict[str, Any] = {}
    for part, module in networks_of(pipeline).items():
        told = {"adapters": _adapters(module), "processors": _processors(module), "freeu": _freeu(module)}
        if told := {kind: table for kind, table in told.items() if table}:
            found[part] = told
    if layers := getattr(pipeline, "pag_applied_layers", None):
        found["pipeline"] = {"pag_applied_layers": list(layers)}
    return found


def _adapters(module: nn.Module) -> dict[str, Any]:
    weights: dict[str, dict[str, Any]] = {}
    for name, layer in module.named_modules():
        if hasattr(layer, "base_layer") and hasattr(layer, "active_adapters"):
            for adapter, weight in _weights(layer):
                weights.setdefault(adapter, {})[name] = weight
    return {adapter: _common(layers) for adapter, layers in weights.items()}


def _weights(layer: Any) -> Iterator[tuple[str, float | str]]:
    """Of a layer of peft: each adapter, and by how much it counts beside alpha / rank; 0 where it is off."""
    for adapter, scale in getattr(layer, "scaling", {}).items():
        if adapter in layer.merged_adapters:
            yield adapter, "fused"
            continue
        alpha, rank = getattr(layer, "lora_alpha", {}).get(adapter), getattr(layer, "r", {}).get(adapter)
        unit = alpha / rank if alpha and rank else 1.0
        works = adapter in layer.active_adapters and not layer.disable_adapters
        yield adapter, round(scale / unit, _DIGITS) if works else 0.0


def _processors(module: nn.Module) -> dict[str, Any]:
    """Those with values of their own, or that aren't of diffusers."""
    values: dict[str, dict[str, dict[str, Any]]] = {}
    for name, layer in module.named_modules():
        processor = getattr(layer, "processor", None)
        kind = type(processor)
        told = {key: value for key, value in _plain(processor) if key not in _NO_SAY}
        if processor is None or (kind.__module__.startswith("diffusers.") and not told):
            continue
        attributes = values.setdefault(kind.__name__, {})
        for key, value in (told | {"layers": True}).items():
            attributes.setdefault(key, {})[name] = value
    return {
        kind: {key: _common(layers) if key != "layers" else len(layers) for key, layers in table.items()}
        for kind, table in values.items()
    }


def _plain(thing: Any) -> Iterator[tuple[str, Any]]:
    for key, value in getattr(thing, "__dict__", {}).items():
        if not key.startswith("_") and _is_plain(value):
            yield key, value


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))


def _freeu(module: nn.Module) -> dict[str, Any]:
    values: dict[str, dict[str, Any]] = {}
    for name, block in module.named_modules():
        for factor in _FREEU:
            if (value := vars(block).get(factor)) is not None and _is_plain(value):
                values.setdefault(factor, {})[name] = value
    return {factor: _common(blocks) for factor, blocks in values.items()}


def _common(values: Mapping[str, Any]) -> Any:
    """The value that all layers have; else SHA-256 of all of them."""
    [first, *others] = values.values()
    if all(other == first for other in others):
        return list(first) if isinstance(first, tuple) else first
    text = json.dumps(sorted(values.items()))
    return {"sha256": hashlib.sha256(text.encode()).hexdigest(), "length": len(values)}
