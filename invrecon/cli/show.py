"""`invrecon show`: what a seed file, or a picture of ours, says of itself."""

from pathlib import Path
from typing import Annotated, Any

import typer

from invrecon.cli.command import command
from invrecon.cli.output import Output
from invrecon.errors import InputError
from invrecon.formats import is_png, is_seed_file

_FIELDS = (
    "format", "model", "fingerprint", "prompt", "negative_prompt", "num_inference_steps", "guidance_scale",
    "sampler", "dtype", "width", "height", "tiling", "inversion", "solver", "rtol", "photo", "edit",
    "imagined", "health", "versions",
)  # fmt: skip


@command(
    examples=[
        "invrecon show fig.seed.safetensors",
        "invrecon show fig.recon.png",
        "invrecon show fig.seed.safetensors --json",
    ],
    codes={0: "it is shown", 1: "it is damaged, or none of ours", 2: "wrong usage", 130: "interrupted"},
)
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A seed file, or a PNG that invrecon wrote.")],
    output: Output,
) -> int:
    """Print what a seed file or a picture says of itself: model, prompts, steps, guidance, size and origin.

    A seed file is checked as it is when it is used; the model isn't loaded. Prompts can hold names. Pictures
    written with --no-metadata say nothing; nor do those that another program has saved anew.
    """
    try:
        if not is_png(file) and not is_seed_file(file):
            raise InputError(f"{file}: is neither a PNG nor, by its ending, a seed file (.safetensors)")
        known = _of_picture(file) if is_png(file) else _of_seed(file)
    except OSError as error:
        raise InputError(f"{file}: can't be read: {error.strerror}") from error
    output.record({"input": file} | known)
    for title, value in known.items():
        if value is not None:
            output.line(f"{title.replace('_', ' '):<22}{_text(value)}")
    return 0


def _of_picture(path: Path) -> dict[str, Any]:
    from invrecon.image import read_about

    return read_about(path)


def _of_seed(path: Path) -> dict[str, Any]:
    from invrecon.seedfile import load_seed

    seed = load_seed(path)
    known = {name: seed.header.get(name) for name in _FIELDS}
    known["attachments"] = seed.header.get("identity", {}).get("attachments") or None
    known |= {"latents": list(seed.latents.shape), "mask": seed.mask is not None}
    known["boosted"] = seed.header.get("boost") is not None
    return known | {"sha256": seed.sha256}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(one)}" for name, one in value.items() if one not in (None, {}))
    if isinstance(value, list):
        return " x ".join(map(_text, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
