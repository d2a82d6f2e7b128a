"""From what a user names to a checkpoint on disk."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from invrecon.errors import ModelError, printable
from invrecon.formats import CHECKPOINT_ENDINGS
from invrecon.models import attachments
from invrecon.models.cards import cards
from invrecon.models.checkpoint import Checkpoint
from invrecon.models.files import HOW_TO_CONVERT, PICKLES, read_json
from invrecon.models.hub import fetch
from invrecon.models.single_file import SingleFile
from invrecon.models.tokenizers import LAYOUTS

BUNDLED = Path(__file__).parent / "bundled"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def locate(
    name: str,
    revision: str = "",
    variant: str = "",
    base: str = "",
    vae: str = "",
    lora: Sequence[str] = (),
    embedding: Sequence[str] = (),
) -> Checkpoint:
    """The checkpoint that `name` means. The network is asked only where a hub id, or the card of one, is
    named.

    Args:
        name: a card's name, a diffusers folder, a .safetensors file, or a hub id.
        revision, variant: branch, tag or commit of a hub id; and of its weights, or a folder's ("fp16").
        base: for a single file, the diffusers folder or hub id that its configuration, tokenizers and
            missing parts come from.
        vae: a folder or .safetensors file with another autoencoder; "" for the checkpoint's own.
        lora: LoRAs to load onto it, each "FILE[:WEIGHT]".
        embedding: files of learnt words to load onto it.

    Raises:
        ModelError: there is no such thing, it is pickled, or it can't be fetched.
    """
    added = attachments.find(lora, embedding)
    checkpoint = _locate(name, revision, variant, base)
    return replace(checkpoint, vae=autoencoder_at(Path(vae)) if vae else None, attachments=added)


def _locate(name: str, revision: str, variant: str, base: str) -> Checkpoint:
    card, path = cards().get(name), Path(name)
    is_id = (
        not path.exists()
        and _HUB_ID.fullmatch(name)
        and path.suffix.lower() not in (*PICKLES, *CHECKPOINT_ENDINGS)
    )
    if remote := card.hub if card else name if is_id else "":
        return Checkpoint(name, fetch(remote, revision, variant), variant)
    if revision:
        raise ModelError(f"{name}: a revision is for a hub id")
    if card:
        return Checkpoint(name, BUNDLED / name)
    if path.suffix.lower() in PICKLES:
        raise ModelError(f"{name} is a pickle, which could run code, and isn't opened: {HOW_TO_CONVERT}")
    if path.is_file():
        return _single_file(path, variant, base)
    if (path / "model_index.json").is_file():
        return Checkpoint(name, path, variant)
    if path.is_dir():
        raise ModelError(f"{name} {_not_a_checkpoint(path)}")
    raise ModelError(
        f"no model {name!r}: give a card's name ({', '.join(cards())}), a diffusers folder, a .safetensors "
        "file or a hub id"
    )


def _not_a_checkpoint(folder: Path) -> str:
    """What a folder without model_index.json is, and what to do."""
    try:
        config = read_json(folder / "config.json")
    except ModelError:
        config = {}
    kind = config.get("_class_name") or next(iter(config.get("architectures") or ()), None)
    if not isinstance(kind, str):
        return (
            "is a folder without model_index.json, not a checkpoint in the diffusers layout: name the folder "
            "that has one, or a .safetensors file"
        )
    what = f"holds a {printable(kind):.60} alone, a part of a checkpoint"
    if "ControlNet" in kind:
        return f"{what}: load it into a pipeline in diffusers, and give that to Model.from_pipeline"
    return f"{what}: name the folder that has the model_index.json"


def _single_file(path: Path, variant: str, base: str) -> Checkpoint:
    if path.suffix.lower() not in CHECKPOINT_ENDINGS:
        raise ModelError(f"{path} is not a .safetensors file")
    file = SingleFile.read(path)
    file.check()
    if base:
        return Checkpoint(str(path), path, variant, _base(base, variant))
    beside = (path.with_suffix(""), path.parent)
    if found := next((folder for folder in beside if (folder / "model_index.json").is_file()), None):
        return Checkpoint(str(path), path, variant, found)
    if not (LAYOUTS / file.kind).is_dir():
        raise ModelError(
            f"{path} is of {file.kind}, and holds weights alone: name a diffusers folder or hub id of the "
            "same with --base"
        )
    return Checkpoint(str(path), path, variant, LAYOUTS / file.kind)


def _base(base: str, variant: str) -> Path:
    found = _locate(base, "", variant, "")
    if found.base:
        raise ModelError(f"--base {base} is a single file: name a diffusers folder or hub id")
    return found.path


def autoencoder_at(path: Path) -> Path:
    """A folder with an autoencoder's config.json, the `vae` of a checkpoint's folder, or a .safetensors
    file."""
    if path.suffix.lower() in CHECKPOINT_ENDINGS and path.is_file():
        return path
    found = next((folder for folder in (path, path / "vae") if (folder / "config.json").is_file()), None)
    if found is None:
        raise ModelError(
            f"no autoencoder at {path}: name a folder with its config.json, a checkpoint's folder, or a "
            ".safetensors file"
        )
    return found
