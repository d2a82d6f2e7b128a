"""`invrecon show`: what a seed file says of itself."""

import hashlib
from pathlib import Path
from typing import Annotated, Any

import typer

from invrecon.cli.command import command
from invrecon.cli.output import Output

_FIELDS = (
    "format", "model", "fingerprint", "prompt", "negative_prompt", "num_inference_steps", "guidance_scale",
    "sampler", "dtype", "width", "height", "tiling", "inversion", "solver", "rtol", "photo", "edit",
    "imagined", "health", "versions",
)  # fmt: skip


@command(
    examples=["invrecon show fig.seed.safetensors", "invrecon show fig.seed.safetensors --json"],
    codes={0: "it is shown", 1: "it is damaged, or no seed file", 2: "wrong usage", 130: "interrupted"},
)
def show(
    seed_file: Annotated[Path, typer.Argument(metavar="SEED", help="A seed file.")],
    output: Output,
) -> int:
    """Print what a seed file says of itself: model, prompts, steps, guidance, size, origin and health.

    The file is checked as it is when it is used; the model isn't loaded. Prompts can hold names.
    """
    from invrecon.seedfile import load_seed

    seed = load_seed(seed_file)
    known = {name: seed.header.get(name) for name in _FIELDS}
    known["attachments"] = seed.header.get("identity", {}).get("attachments") or None
    known |= {"latents": list(seed.latents.shape), "mask": seed.mask is not None}
    known["boosted"] = seed.header.get("boost") is not None
    known["sha256"] = hashlib.sha256(seed_file.read_bytes()).hexdigest()
    output.record({"input": seed_file} | known)
    for title, value in known.items():
        if value is not None:
            output.line(f"{title.replace('_', ' '):<22}{_text(value)}")
    return 0


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(one)}" for name, one in value.items())
    if isinstance(value, list):
        return " x ".join(map(_text, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
