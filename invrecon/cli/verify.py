"""`invrecon verify`: does stock diffusers get the photo back from a seed file?"""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from invrecon.cli import options
from invrecon.cli.batch import exit_code, load
from invrecon.cli.output import print_table, progress_bar, strict
from invrecon.settings import Settings

if TYPE_CHECKING:
    from invrecon.pipeline import Verification

EPILOG = """\b
Examples:
  invrecon verify photo.seed.safetensors photo.jpg
  invrecon verify photo.seed.safetensors photo.jpg --min-psnr 28
  invrecon verify photo.seed.safetensors photo.jpg --matrix --json

\b
Exit codes:
  0    the picture is as good as asked for
  1    the seed file or the photo can't be used, or don't belong together
  2    wrong usage: a bad option or model
  3    the picture falls short of --min-psnr
  130  interrupted"""


@options.takes_settings("model", "device")
def verify(
    seed_file: Annotated[Path, typer.Argument(metavar="SEED", help="A seed file.")],
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="The photo that it was made from.")],
    min_psnr: options.MinPsnr = None,
    matrix: Annotated[
        bool, typer.Option("--matrix", help="Try other step counts, samplers and dtypes too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    quiet: options.Quiet = False,
    *,
    settings: Settings,
) -> int:
    """Regenerate a seed through diffusers' own pipeline and compare it with its photo.

    The pipeline, its scheduler and its loop are diffusers'; none of invrecon's sampling is used. Says where the loss comes from.
    """
    from invrecon import pipeline

    loaded = load(settings, quiet)
    with progress_bar(seed_file.name, quiet) as on_progress:
        result = pipeline.verify(seed_file, photo, loaded, on_progress, matrix=matrix)
    row = {"input": seed_file, "error": None, **_figures(result)}
    if as_json:
        typer.echo(
            json.dumps(
                strict(
                    row | {"losses": asdict(result.losses), "matrix": [asdict(one) for one in result.matrix]}
                )
            )
        )
    elif not quiet:
        _print(result)
    return exit_code([row], min_psnr)


def _figures(result: "Verification") -> dict[str, float]:
    return {name: getattr(result, name) for name in ("psnr", "ssim", "latent_fidelity_db", "seconds")}


def _print(result: "Verification") -> None:
    typer.echo(
        f"PSNR {result.psnr:.2f} dB, SSIM {result.ssim:.4f}, latent fidelity {result.latent_fidelity_db:.1f} dB, by stock diffusers"
    )
    losses = result.losses
    stages = (
        ("encoder: D(E(x))", losses.encoder, math.nan),
        ("boosting: D(z_0)", losses.boosting, losses.boosting - losses.encoder),
        ("trajectory: regenerated", losses.trajectory, losses.trajectory - losses.boosting),
        ("guidance", losses.guidance, losses.guidance - losses.trajectory),
        ("8 bits", losses.eight_bits, losses.eight_bits - losses.guidance),
    )
    print_table(
        ("stage", "PSNR dB", "change dB"),
        [(name, _number(value, ".2f"), _number(change, "+.2f")) for name, value, change in stages],
    )
    if result.matrix:
        rows = [(one.sampler, str(one.steps), one.dtype, _number(one.psnr, ".2f")) for one in result.matrix]
        print_table(("sampler", "steps", "dtype", "PSNR dB"), rows)


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)
