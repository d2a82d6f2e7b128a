"""What a picture's file says of how it was made."""

from collections.abc import Mapping
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


def about(header: Mapping[str, Any], kind: Kind, seed_sha256: str = "") -> dict[str, Any]:
    """The model, the settings and the seed that a picture was made with; no paths, times or machines.

    Args:
        header: of the seed; for a comparison of several pictures one of theirs.
        kind: "edit" where the picture is of the edit that the header holds.
        seed_sha256: of the seed's file; "" where there is none, as for a comparison.
    """
    told = {"kind": kind, "model": PureWindowsPath(header["model"]).name}  # splits at "/" and at "\"
    told |= {name: header[name] for name in _OF_THE_SEED} | {"versions": versions()}
    if kind == "edit":
        told["edit"] = header["edit"]
    return told | {"seed_sha256": seed_sha256} if seed_sha256 else told
