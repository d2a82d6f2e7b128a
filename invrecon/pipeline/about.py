"""What a picture's file says of how it was made."""

from pathlib import PureWindowsPath
from typing import Any, Literal

from invrecon.models.mismatch import versions
from invrecon.seedfile import Seed

Kind = Literal["reconstruction", "edit", "imagined", "comparison"]

_OF_THE_SEED = (
    "fingerprint", "prompt", "negative_prompt", "num_inference_steps", "guidance_scale", "sampler", "width",
    "height",
)  # fmt: skip


def kind_of(seed: Seed) -> Kind:
    """What the plain regeneration of a seed is."""
    return "imagined" if "imagined" in seed.header else "reconstruction"


def about(seed: Seed | None, kind: Kind, seed_sha256: str = "") -> dict[str, Any]:
    """The model, the settings and the seed that a picture was made with; no paths, times or machines.

    Args:
        seed: for a comparison of several pictures one of theirs; None for an edit without a seed, of which
            only the kind and the versions are told.
        kind: "edit" where the picture is of the edit that the seed's header holds.
        seed_sha256: of the seed's file; "" for a comparison.
    """
    if seed is None:
        return {"kind": kind, "versions": versions()}
    header = seed.header
    told = {"kind": kind, "model": PureWindowsPath(header["model"]).name}  # splits at "/" and at "\"
    told |= {name: header[name] for name in _OF_THE_SEED} | {"versions": versions()}
    if kind == "edit":
        told["edit"] = header["edit"]
    return told | {"seed_sha256": seed_sha256} if seed_sha256 else told
