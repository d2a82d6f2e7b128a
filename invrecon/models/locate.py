"""From what a user names to a checkpoint on disk."""

import re
from pathlib import Path

from invrecon.errors import ModelError
from invrecon.formats import CHECKPOINT_ENDINGS
from invrecon.models.cards import cards
from invrecon.models.checkpoint import HOW_TO_CONVERT, PICKLES, Checkpoint

BUNDLED = Path(__file__).parent / "bundled"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def locate(name: str, revision: str = "", variant: str = "", base: str = "") -> Checkpoint:
    """The checkpoint that `name` means. The network is asked only where a hub id, or the card of one, is named.

    Args:
        name: a card's name, a diffusers folder, a .safetensors file, or a hub id.
        revision, variant: branch, tag or commit of a hub id; and of its weights, or a folder's ("fp16").
        base: for a single file, the diffusers folder or hub id that its configuration and tokenizers are taken from.

    Raises:
        ModelError: there is no such thing, it is pickled, or it can't be fetched.
    """
    card, path = cards().get(name), Path(name)
    remote = (
        card.hub
        if card
        else name
        if not path.exists() and _HUB_ID.fullmatch(name) and path.suffix.lower() not in PICKLES
        else ""
    )
    if remote:
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
        raise ModelError(
            f"{name} is a folder without model_index.json: not a checkpoint in the diffusers layout"
        )
    raise ModelError(
        f"no model {name!r}: give a card's name ({', '.join(cards())}), a diffusers folder, a .safetensors file or a hub id"
    )


def _single_file(path: Path, variant: str, base: str) -> Checkpoint:
    if path.suffix.lower() not in CHECKPOINT_ENDINGS:
        raise ModelError(f"{path} is not a .safetensors file")
    if base:
        return Checkpoint(str(path), path, base=locate(base, variant=variant).path)
    beside = (path.with_suffix(""), path.parent)
    found = next((folder for folder in beside if (folder / "model_index.json").is_file()), None)
    if found is None:
        raise ModelError(
            f"{path} holds weights alone: name a diffusers folder or hub id of the same architecture with --base"
        )
    return Checkpoint(str(path), path, base=found)


def fetch(hub_id: str, revision: str = "", variant: str = "") -> Path:
    """A hub checkpoint's folder in the cache, fetched as needed: what model_index.json names, safetensors only.

    Raises:
        ModelError: it isn't there, isn't safetensors, is gated, or the network can't be reached (or HF_HUB_OFFLINE forbids it).
    """
    from invrecon.models.quiet import quiet

    with quiet():
        from diffusers import DiffusionPipeline
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        with quiet():
            return Path(
                DiffusionPipeline.download(
                    hub_id, revision=revision or None, variant=variant or None, use_safetensors=True
                )
            )
    except GatedRepoError as error:
        raise ModelError(
            f"{hub_id} is gated: accept its licence on its page, then log in with `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(f"{hub_id} has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"no folder {hub_id!r} here, and no such model on the hub (or it is private: `hf auth login`)"
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        reason = next(
            (line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__
        )
        raise ModelError(
            f"there is no folder {hub_id} here, and it can't be fetched from the hub: {reason}"
        ) from error
