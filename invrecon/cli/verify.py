"""`invrecon verify`: does stock diffusers get the photo back from a seed file?"""

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from invrecon.cli import options
from invrecon.cli.batch import exit_code, load
from invrecon.cli.boundary import say
from invrecon.cli.command import command
from invrecon.cli.output import Output
from invrecon.cli.results import seen
from invrecon.cli.tables import cell
from invrecon.settings import Checkpoint, Settings, settings_of

if TYPE_CHECKING:
    from invrecon.pipeline import Verification

_FIGURES = ("psnr", "psnr_photo", "ssim", "latent_fidelity_db", "seconds")


@command(
    examples=[
        "invrecon verify photo.seed.safetensors photo.jpg",
        "invrecon verify photo.seed.safetensors photo.jpg --min-psnr 28",
        "invrecon verify photo.seed.safetensors photo.jpg --matrix --json",
    ],
    codes={
        0: "the picture is as good as asked for",
        1: "the seed file or the photo can't be used, or don't belong together",
        2: "wrong usage: a bad option or model",
        3: "the picture falls short of --min-psnr",
        130: "interrupted",
    },
    only=[*settings_of(Checkpoint), "device", "dtype"],
)
def verify(
    seed_file: Annotated[Path, typer.Argument(metavar="SEED", help="A seed file.")],
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="The photo that it was made from.")],
    output: Output,
    min_psnr: options.MinPsnr = None,
    matrix: Annotated[
        bool, typer.Option("--matrix", help="Try other step counts, samplers and dtypes too.")
    ] = False,
    *,
    settings: Settings,
) -> int:
    """Regenerate a seed through diffusers' own pipeline and compare it with its photo.

    The pipeline, its scheduler and its loop are diffusers'; none of invrecon's sampling is used. Says where
    the loss comes from. Runs in float32 unless --dtype says otherwise, whatever the seed was found in: in
    half precision stock diffusers rounds the latents too, and loses more.
    """
    from invrecon import pipeline

    dtype = "float32" if settings.dtype == "auto" else settings.dtype
    model = load(settings, output, dtype)
    with output.progress(seed_file.name) as on_progress:
        result = pipeline.verify(seed_file, photo, model, on_progress, matrix=matrix, dtype=dtype)
    if result.advice:
        say(f"warning: {seed_file}: {result.advice}")
    row = {"input": seed_file, "error": None} | {name: getattr(result, name) for name in _FIGURES}
    row["seen"] = seen(result.subject) if result.subject else None
    output.record(row | {"losses": asdict(result.losses), "matrix": [asdict(one) for one in result.matrix]})
    _show(output, result)
    return exit_code([row], min_psnr)


def _show(output: Output, result: "Verification") -> None:
    output.line(
        f"PSNR {result.psnr:.2f} dB, SSIM {result.ssim:.4f}, "
        f"latent fidelity {result.latent_fidelity_db:.1f} dB, by stock diffusers"
    )
    losses = result.losses
    stages = (
        ("encoder: D(E(x))", losses.encoder, math.nan),
        ("boosting: D(z_0)", losses.boosting, losses.boosting - losses.encoder),
        ("trajectory: regenerated", losses.trajectory, losses.trajectory - losses.boosting),
        ("guidance", losses.guidance, losses.guidance - losses.trajectory),
        ("8 bits", losses.eight_bits, losses.eight_bits - losses.guidance),
    )
    output.table(
        ("stage", "PSNR dB", "change dB"),
        [(name, cell(value, ".2f"), cell(change, "+.2f")) for name, value, change in stages],
    )
    if result.matrix:
        rows = [(one.sampler, str(one.steps), one.dtype, cell(one.psnr, ".2f")) for one in result.matrix]
        output.table(("sampler", "steps", "dtype", "PSNR dB"), rows)
