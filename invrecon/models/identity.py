"""What a seed's picture depends on besides the seed: named fields for a seed file, and what differs later.

As JSON:

    {"weights": {part: SHA-256}, "configuration": {part: {setting: value}}, "tokenizers": {name: SHA-256},
     "attachments": {name: value}}

Attachments are the files loaded onto a checkpoint (`models.attachments`), or what hangs on the networks of a
live pipeline (`models.attached`).

Parts are those of the pipeline ("unet", "vae", "text_encoder", ...). Among the configurations are
"scheduler", the tokenizers, and "pipeline" for its own settings, which early files lack. Weights in a single
file are together under "file". Lists of more than 32 values are kept as their SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from invrecon.errors import ModelError
from invrecon.models.arguments import tensor_hash
from invrecon.models.files import digest
from invrecon.models.tokenizers import tokenizers_of

if TYPE_CHECKING:
    from invrecon.models.checkpoint import Checkpoint

LONGEST_LIST = 32
_UNSAID = (None, False, "")
"""Values that a setting has where it is left out, or unknown to an older version of diffusers."""
PIPELINE = "pipeline"
_NOT_CONFIGURED = ("safety_checker", "feature_extractor", "requires_safety_checker", "add_watermarker")
_NO_SAY = {  # settings that change no picture
    "_class_name": False,
    "architectures": True,
    "dtype": True,
    "torch_dtype": True,
    "transformers_version": True,
    "sample_size": True,
    "return_dict": True,
    "use_cache": True,
    "is_encoder_decoder": True,
}


def describe(
    pipeline: Any, scheduler: Any, weights: Mapping[str, str], attachments: Mapping[str, Any]
) -> dict[str, Any]:
    """The identity of a pipeline in use.

    Args:
        scheduler: that the seed is found with.
        weights: of each part that has some, their SHA-256.
        attachments: what works beside the weights.
    """
    configs = {
        name: part.config
        for name, part in pipeline.components.items()
        if hasattr(part, "config") and name not in _NOT_CONFIGURED
    }
    several = getattr(pipeline.components.get("controlnet"), "nets", ())
    configs |= {f"controlnet.{number}": one.config for number, one in enumerate(several)}
    configs["scheduler"] = scheduler.config
    configs[PIPELINE] = {
        name: value
        for name, value in pipeline.config.items()
        if name not in pipeline.components and name not in _NOT_CONFIGURED
    }
    configs |= {name: _habits(tokenizer) for name, tokenizer in tokenizers_of(pipeline).items()}
    return {
        "weights": dict(weights),
        "configuration": {part: configuration(config) for part, config in configs.items()},
        "tokenizers": {name: _vocabulary(tokenizer) for name, tokenizer in tokenizers_of(pipeline).items()},
        "attachments": dict(attachments),
    }


def networks_of(pipeline: Any) -> dict[str, torch.nn.Module]:
    """The parts of a pipeline that have weights, by name; not those without a say in the picture."""
    parts = pipeline.components.items()
    return {
        name: part for name, part in parts if isinstance(part, torch.nn.Module) and name != "safety_checker"
    }


def weights_of(pipeline: Any, checkpoint: Checkpoint | None) -> dict[str, str]:
    """SHA-256 over the weight files of each part of a checkpoint, or over all weights of each part of a live
    pipeline.

    Raises:
        ModelError: weights are offloaded one by one, so that they can't be read.
    """
    if checkpoint:
        sources = checkpoint.sources(tuple(networks_of(pipeline)))
        return {part: digest(files) for part, files in sources.items()}
    hashes = {}
    for name, part in networks_of(pipeline).items():
        values = part.state_dict()
        if any(value.is_meta for value in values.values()):
            raise ModelError(f"the weights of {name} are offloaded one by one: use model offload, or none")
        hashes[name] = hash_of({key: tensor_hash(value) for key, value in values.items()})
    return hashes


def hash_of(table: Mapping[str, Any]) -> str:
    """SHA-256 of a table as JSON."""
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()


class Difference(NamedTuple):
    """A field of two identities, "scheduler.prediction_type", and its values; those of weights and tokenizers
    are the first digits of their SHA-256.
    """

    field: str
    then: str
    now: str


def differences(
    then: Mapping[str, Any], now: Mapping[str, Any], *, same_versions: bool = True
) -> list[Difference]:
    """Each field that differs: attachments and arguments first, then configuration, tokenizers and weights.

    Args:
        same_versions: whether both are told by the same version of diffusers and transformers; a setting
            that one of them doesn't have is left out of account otherwise.
    """
    early = PIPELINE not in then.get("configuration", {})
    parts = now.get("configuration", {}).items()
    told = {
        name: part for name, part in parts if not (early and (name == PIPELINE or name in then["tokenizers"]))
    }
    now = {**now, "configuration": told}
    found = []
    for kind in ("attachments", "arguments", "configuration", "tokenizers", "weights"):
        before, after = flat(then.get(kind, {})), flat(now.get(kind, {}))
        names = before | after if same_versions or kind != "configuration" else before.keys() & after.keys()
        for name in sorted(names):
            old, new = before.get(name), after.get(name)
            if _same(old, new) or (old in _UNSAID and new in _UNSAID):
                continue
            if kind in ("weights", "tokenizers"):
                found.append(
                    Difference(f"{name} {kind}".removesuffix(" tokenizers"), _short(old), _short(new))
                )
            else:
                unsaid = "none" if kind == "attachments" else "unset"
                found.append(Difference(name, _said(old, unsaid), _said(new, unsaid)))
    return found


def contents(checkpoint: Checkpoint) -> str:
    """SHA-256 over all files of a checkpoint that its parts are made of: weights, configuration,
    tokenizers.
    """
    weights = [
        file for files in checkpoint.sources(tuple(sorted(checkpoint.parts))).values() for file in files
    ]
    added = [("", one.path) for one in checkpoint.attachments]
    tables = [
        (str(path.relative_to(checkpoint.folder)), path)
        for path in sorted(checkpoint.folder.rglob("*"))
        if path.suffix in (".json", ".txt", ".model", ".jinja", ".tiktoken")
    ]
    return digest((*weights, *added, *tables))


def configuration(config: Any) -> dict[str, Any]:
    """A configuration as JSON, without what changes no picture; what JSON has no number for as text."""
    table = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    kept = {
        name: _as_json(value)
        for name, value in sorted(table.items())
        if not _NO_SAY.get(name, name.startswith("_")) and value is not None
    }
    return json.loads(json.dumps(kept))


def _as_json(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list | tuple) and len(value) > LONGEST_LIST:
        return {"sha256": hashlib.sha256(json.dumps(list(value)).encode()).hexdigest(), "length": len(value)}
    if isinstance(value, list | tuple):
        return [_as_json(each) for each in value]
    if isinstance(value, dict):
        return {str(name): _as_json(each) for name, each in value.items()}
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def _vocabulary(tokenizer: Any) -> str:
    """SHA-256 of all that turns text into numbers."""
    length, pad = tokenizer.model_max_length, tokenizer.pad_token_id
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend else json.dumps(sorted(tokenizer.get_vocab().items()))
    table = json.loads(text)
    if isinstance(table, dict):
        table = {
            name: value for name, value in table.items() if name not in ("padding", "truncation", "version")
        }
    return hashlib.sha256(json.dumps([table, length, pad], sort_keys=True).encode()).hexdigest()


def _habits(tokenizer: Any) -> dict[str, Any]:
    """What a tokenizer does beside its vocabulary."""
    template = getattr(tokenizer, "chat_template", None)
    sides = {name: getattr(tokenizer, name, None) for name in ("padding_side", "truncation_side")}
    return sides | {"chat_template": template and hash_of({"": template})[:16]}


def flat(table: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables as one, {"unet.adapters.hat": 0.8}; what has a digest stays whole."""
    return dict(_flat(table, ""))


def _flat(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping) and "sha256" not in value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _short(digest: Any) -> str:
    return "none" if digest is None else str(digest)[:8]


def _same(old: Any, new: Any) -> bool:
    """Files are the same under any name."""
    both = [{k: v for k, v in x.items() if k != "file"} if isinstance(x, Mapping) else x for x in (old, new)]
    return bool(both[0] == both[1])


def _said(value: Any, unsaid: str) -> str:
    if isinstance(value, Mapping) and "file" in value:
        weight = f":{value['weight']!r}".removesuffix(".0") if "weight" in value else ""
        return f"{value['file']}{weight} ({_short(value['sha256'])})"
    if isinstance(value, Mapping):
        kind = f"a list of {value['length']}" if "length" in value else "one"
        return f"{kind} ({str(value.get('sha256'))[:8]})"
    return unsaid if value is None else f"{value}"[:80]
