"""Fetching checkpoints from the hub, and what can go wrong there as sentences for a person."""

import errno
from collections.abc import Iterator
from pathlib import Path

from invrecon.errors import ModelError

_UNREACHABLE = ("ConnectError", "ConnectTimeout", "ReadTimeout", "ConnectionError", "ProxyError")


def fetch(hub_id: str, revision: str = "", variant: str = "") -> Path:
    """A hub checkpoint's folder in the cache, fetched as needed: what model_index.json names, safetensors
    only.

    Raises:
        ModelError: it isn't there, isn't safetensors, is gated, or the network can't be reached (or
        HF_HUB_OFFLINE forbids it).
    """
    from invrecon.models.quiet import quiet

    with quiet():
        from diffusers import DiffusionPipeline
    try:
        with quiet():
            return Path(
                DiffusionPipeline.download(
                    hub_id, revision=revision or None, variant=variant or None, use_safetensors=True
                )
            )
    except Exception as error:  # the libraries' own and the system's, one wrapped in another
        raise ModelError(sentence(error, hub_id, revision, variant)) from error


def sentence(error: BaseException, hub_id: str, revision: str = "", variant: str = "") -> str:
    """One line that says what went wrong and what to do: of an error or of its causes, the first that is
    known."""
    causes = list(_causes(error))
    for cause in causes:
        if known := _known(cause, hub_id, revision):
            return known
    if variant and any("variant" in str(cause) for cause in causes):
        return f"{hub_id} has no weights of the variant {variant!r} in safetensors: try without --variant"
    if any("safetensors" in str(cause) for cause in causes):
        return f"{hub_id} has no weights in safetensors, and pickles aren't opened: name another checkpoint"
    last = next((line for cause in causes[::-1] for line in str(cause).splitlines() if line.strip()), "")
    return f"{hub_id} can't be fetched from the hub: {last.strip() or type(error).__name__}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised from or during, the outermost first."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _known(cause: BaseException, hub_id: str, revision: str) -> str | None:
    """A sentence by kind of error; None for those that say too little."""
    from huggingface_hub import errors

    sentences = (  # the special kinds before the general ones that they derive from
        (errors.GatedRepoError, "is gated: accept its licence on its page, then log in with `hf auth login`"),
        (
            errors.RevisionNotFoundError,
            f"has no revision {revision or 'main'!r}: look on its page for branches, tags and commits",
        ),
        (
            errors.RepositoryNotFoundError,
            "is no folder here and no model on the hub; if it is private, log in with `hf auth login`",
        ),
        (
            errors.RemoteEntryNotFoundError,
            "is on the hub, but is no checkpoint in the diffusers layout: it has no model_index.json, or "
            "lacks a file that it names",
        ),
        (
            errors.OfflineModeIsEnabled,
            "is not in the cache, and HF_HUB_OFFLINE forbids to fetch it: unset that, or name a folder",
        ),
    )
    by_kind = next((text for kind, text in sentences if isinstance(cause, kind)), None)
    text = by_kind or _by_status(cause) or _by_system(cause)
    return text and f"{hub_id} {text}"


def _by_status(cause: BaseException) -> str | None:
    """A sentence by what the hub answers."""
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if status == 401:
        return "can't be fetched: the hub refuses the log-in (401); use `hf auth login`"
    if status == 403:
        return "can't be fetched: this log-in may not (403); ask for access on its page"
    return None if status is None else f"can't be fetched: the hub answers {status}; try again later"


def _by_system(cause: BaseException) -> str | None:
    """A sentence by what the disk or the network does."""
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return "can't be kept: the disk is full; free some, or set HF_HOME to a folder on another disk"
    if isinstance(cause, PermissionError):
        return f"can't be kept: {cause.filename} can't be written; set HF_HOME to a folder that can"
    if type(cause).__name__ in _UNREACHABLE:
        return "is not in the cache, and the hub can't be reached: check the network, or name a folder"
    return None
