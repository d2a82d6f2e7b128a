"""`invrecon speed`: photos a second on this machine, and what they are made of."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invrecon.cli import options
from invrecon.cli.batch import check_input, load
from invrecon.cli.boundary import say
from invrecon.cli.output import print_table, progress_bar, strict
from invrecon.errors import InputError, UsageError
from invrecon.settings import Settings

if TYPE_CHECKING:
    from invrecon.audit.speed import Speed
    from invrecon.models import Model

EPILOG = """\b
Examples:
  invrecon speed
  invrecon speed photo.jpg --size 128 --batch-sizes 1,2,4 --json
  invrecon speed --shape sd15 --dtype bfloat16 --size 512 --batch-sizes 1,2,4,8 --compile

\b
Exit codes:
  0    all is measured
  1    a photo can't be used
  2    wrong usage: a bad option, preset or model, or a network that can't be compiled
  130  interrupted"""

_FORMATS = {  # field -> (column of the table, format)
    "batch": ("batch", "d"),
    "rtol": ("rtol", "g"),
    "seconds": ("seconds", ".3f"),
    "spread": ("spread", ".0%"),
    "photos_per_second": ("photos\n/s", ".3f"),
    "to_ddim": ("times\nDDIM", ".2f"),
    "to_floor": ("times\nfloor", ".2f"),
    "evaluations_per_step": ("evaluations\n/step", ".2f"),
    "overhead": ("beside the\ndenoiser", ".1%"),
    "tflops": ("TFLOP/s", ".3f"),
    "product_share": ("of a matrix\nproduct's", ".0%"),
}


@options.takes_settings(
    "model", "revision", "variant", "base", "prompt", "negative_prompt", "num_inference_steps", "guidance_scale", "rtol", "size", "fit",
    "device", "dtype", "offload", "compile", "seed",
)  # fmt: skip
def speed(
    photos: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PHOTO]...", help="Photos; without any, pictures are drawn from noise."),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            metavar="sd15|sd21", help="A network of this shape with random weights, in place of --model."
        ),
    ] = None,
    batch_sizes: Annotated[
        str, typer.Option("--batch-sizes", metavar="LIST", help="Photos inverted at once.")
    ] = "1",
    repeats: Annotated[
        int, typer.Option(min=1, metavar="COUNT", help="Rounds; figures are their medians.")
    ] = 3,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line for each row, and nothing else.")
    ] = False,
    quiet: options.Quiet = False,
    *,
    settings: Settings,
) -> int:
    """Measure inversion on this machine, beside DDIM inversion in diffusers' own loop and the time of the evaluations alone.

    Rows: the floor (so many evaluations as there are steps), DDIM, and LBO to a tolerance of 1e-3 and of --rtol. They are timed in turns.
    """
    batches = _batches(batch_sizes)
    for photo in photos or ():
        _check(photo)
    model = _load(settings, shape, quiet)
    rows = _measure(model, settings, photos or [], batches, repeats, as_json, quiet)
    if not (as_json or quiet):
        _print(model, settings, rows)
    return 0


def _batches(text: str) -> list[int]:
    try:
        found = list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError as error:
        raise UsageError(f"--batch-sizes takes whole numbers with commas between, not {text!r}") from error
    if min(found) < 1:
        raise UsageError("a batch has at least one photo")
    return found


def _check(photo: Path) -> None:
    try:
        check_input(photo)
    except OSError as error:
        raise InputError(f"{photo}: can't be used ({error.strerror})") from error


def _load(settings: Settings, shape: str | None, quiet: bool) -> "Model":
    if shape is None:
        return load(settings, quiet)
    from invrecon.models.shapes import random_model

    if settings.offload != "none":
        raise UsageError("a network with random weights isn't offloaded: leave out --offload or --shape")
    with progress_bar(f"making {shape}", quiet):
        return random_model(shape, settings.device, settings.dtype, compiled=settings.compile)


def _measure(
    model: "Model",
    settings: Settings,
    photos: list[Path],
    batches: list[int],
    repeats: int,
    as_json: bool,
    quiet: bool,
) -> list["Speed"]:
    import torch

    from invrecon.audit.speed import make_benchmark, measure

    rows = []
    with progress_bar("speed", quiet) as on_progress:
        try:
            benchmark = make_benchmark(model, settings, photos, max(batches))
            for row in measure(benchmark, batches, repeats, on_progress):
                rows.append(row)
                if as_json:
                    typer.echo(json.dumps(strict(_context(model, settings) | asdict(row)), allow_nan=False))
        except torch.OutOfMemoryError:
            if not rows:
                raise UsageError(
                    "a batch doesn't fit into the memory: give smaller --batch-sizes or --size"
                ) from None
            say("warning: the next batch doesn't fit into the memory, and isn't measured")
    return rows


def _context(model: "Model", settings: Settings) -> dict[str, Any]:
    import torch

    return {
        "model": model.name,
        "device": torch.cuda.get_device_name(model.device)
        if model.device.type == "cuda"
        else model.device.type,
        "threads": torch.get_num_threads(),
        "dtype": settings.dtype,
        "size": settings.size,
        "steps": settings.num_inference_steps,
        "guidance_scale": settings.guidance_scale,
        "compiled": model.compiled,
    }


def _print(model: "Model", settings: Settings, rows: list["Speed"]) -> None:
    typer.echo(
        ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in _context(model, settings).items())
    )
    titles = ("method", *(title for title, _ in _FORMATS.values()), "peak\nMiB")
    table = []
    for row in rows:
        values = asdict(row)
        cells = [
            "-" if values[name] is None else format(values[name], form)
            for name, (_, form) in _FORMATS.items()
        ]
        table.append((row.method, *cells, f"{row.peak_bytes / 2**20:.0f}" if row.peak_bytes else "-"))
    print_table(titles, table)
