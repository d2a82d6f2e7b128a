"""`invrecon speed`: photos a second on this machine, and what they are made of."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invrecon.cli.batch import load
from invrecon.cli.boundary import say
from invrecon.cli.command import command
from invrecon.cli.output import Output, Tables
from invrecon.cli.tables import Columns
from invrecon.cluster.checks import check_input
from invrecon.errors import InputError, UsageError
from invrecon.settings import Checkpoint, Framing, Sampling, Settings, settings_of

if TYPE_CHECKING:
    from invrecon.audit.speed.measurement import Speed
    from invrecon.models import Model
    from invrecon.pipeline import OnProgress

_COLUMNS: Columns = {
    "batch": ("batch", "d"),
    "rtol": ("rtol", "g"),
    "seconds": ("seconds", ".3f"),
    "photos_per_second": ("photos\n/s", ".3f"),
    "to_ddim": ("times\nDDIM", ".2f"),
    "to_floor": ("times\nfloor", ".2f"),
    "evaluations_per_step": ("evaluations\n/step", ".2f"),
}
_MORE_COLUMNS: Columns = {
    "batch": ("batch", "d"),
    "rtol": ("rtol", "g"),
    "spread": ("spread", ".0%"),
    "overhead": ("beside the\ndenoiser", ".1%"),
    "tflops": ("TFLOP/s", ".3f"),
    "product_share": ("of a matrix\nproduct's", ".0%"),
    "peak_mib": ("peak\nMiB", ".0f"),
}


@command(
    examples=[
        "invrecon speed",
        "invrecon speed photo.jpg --size 128 --batch-sizes 1,2,4 --json",
        "invrecon speed --shape sd15 --dtype bfloat16 --size 512 --batch-sizes 1,2,4,8 --compile",
    ],
    codes={
        0: "all is measured",
        1: "a photo can't be used",
        2: "wrong usage: a bad option, preset or model, or a network that can't be compiled",
        130: "interrupted",
    },
    only=[
        *settings_of(Checkpoint), *settings_of(Sampling), "rtol", *settings_of(Framing), "device", "dtype",
        "offload", "compile", "seed",
    ],
    without=["sampler"],
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
        str,
        typer.Option("--batch-sizes", metavar="LIST", help="Batch sizes to measure, with commas between."),
    ] = "1",
    repeats: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="COUNT",
            help="Rounds to measure; figures are their medians. More of them steady the figures.",
        ),
    ] = 3,
    *,
    output: Tables,
    settings: Settings,
) -> int:
    """Measure inversion on this machine, beside diffusers' own DDIM inversion and the evaluations alone.

    Rows: the floor (so many evaluations as there are steps), DDIM, and LBO to a tolerance of 1e-3 and of
    --rtol. They are timed in turns.
    """
    batches = _batches(batch_sizes)
    for photo in photos or ():
        _check(photo)
    model = _load(settings, shape, output)
    context = _context(model, settings)
    with output.progress("speed") as on_progress:
        rows = []
        for row in _measure(model, settings, photos or [], (batches, repeats), on_progress):
            rows.append(row)
            output.record(context | asdict(row))
    output.line(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in context.items()))
    _show(output, rows)
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


def _load(settings: Settings, shape: str | None, output: Output) -> "Model":
    if shape is None:
        return load(settings, output)
    from invrecon.models.shapes import random_model

    if settings.offload != "none":
        raise UsageError("a network with random weights isn't offloaded: leave out --offload or --shape")
    if settings.lora or settings.embedding:
        raise UsageError("a network with random weights takes no files: leave out --lora and --embedding")
    with output.progress(f"making {shape}"):
        return random_model(shape, settings.device, settings.dtype, compiled=settings.compile)


def _measure(
    model: "Model",
    settings: Settings,
    photos: list[Path],
    plan: tuple[list[int], int],
    on_progress: "OnProgress",
) -> Iterator["Speed"]:
    """Rows of batches as large as fit into the memory; `plan` is their sizes, and the rounds."""
    import torch

    from invrecon.audit.speed.benchmark import make_benchmark
    from invrecon.audit.speed.measurement import measure

    batches, repeats = plan
    measured = False
    try:
        benchmark = make_benchmark(model, settings, photos, max(batches))
        for row in measure(benchmark, batches, repeats, on_progress):
            yield row
            measured = True
    except torch.OutOfMemoryError:
        if not measured:
            raise UsageError(
                "a batch doesn't fit into the memory: give smaller --batch-sizes or --size"
            ) from None
        say("warning: the next batch doesn't fit into the memory, and isn't measured")


def _context(model: "Model", settings: Settings) -> dict[str, Any]:
    import torch

    on_cuda = model.device.type == "cuda"
    return {
        "model": model.name,
        "device": torch.cuda.get_device_name(model.device) if on_cuda else model.device.type,
        "threads": torch.get_num_threads(),
        "dtype": str(model.dtype).removeprefix("torch."),
        "size": settings.size,
        "steps": settings.num_inference_steps,
        "guidance_scale": settings.guidance_scale,
        "compiled": model.compiled,
    }


def _show(output: Output, rows: Sequence["Speed"]) -> None:
    told = [asdict(row) | {"peak_mib": row.peak_bytes / 2**20 if row.peak_bytes else None} for row in rows]
    output.figures("method", [row.method for row in rows], told, [_COLUMNS, _MORE_COLUMNS])
