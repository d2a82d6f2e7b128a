"""`invrecon reconstruct`: photos to seeds and back, or seed files to pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invrecon.cli import options
from invrecon.cli.batch import Files, attempt, exit_code, is_seed_name, run_batch
from invrecon.cli.boundary import EXIT_CODES
from invrecon.cli.output import Row, inversion_figures
from invrecon.settings import Settings

if TYPE_CHECKING:
    from PIL.Image import Image

    from invrecon.models import Model
    from invrecon.pipeline import OnProgress, Reconstruction

EPILOG = f"""\b
Examples:
  invrecon reconstruct photo.jpg
  invrecon reconstruct photo.seed.safetensors --out again
  invrecon reconstruct *.jpg --out results --batch-size 4 --json > results.jsonl
  invrecon reconstruct photo.jpg --steps 20 --min-psnr 25
  invrecon reconstruct photo.jpg --prompt "a red apple" --guidance-scale auto

{EXIT_CODES}"""

_FIGURES = (
    "psnr", "ssim", "encoder_ceiling_db", "decoder_ceiling_db", "ddim_psnr", "lbo_psnr", "ilb_psnr",
    "latent_fidelity_db", "ddim_latent_fidelity_db", "seconds",
)  # fmt: skip


@options.takes_settings()
def reconstruct(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT", help="Photos in any common format, and seed files.")
    ],
    out: options.Out = Path("."),
    force: options.Force = False,
    resume: options.Resume = False,
    min_psnr: options.MinPsnr = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    *,
    settings: Settings,
) -> int:
    """Invert photos and regenerate them from their seeds alone.

    Writes NAME.recon.png, NAME.seed.safetensors and NAME.compare.png for each photo, and NAME.recon.png for each seed file,
    whose own prompt, steps, guidance and size are used.
    """
    rows = run_batch(
        inputs,
        _run,
        _keep,
        _name_files,
        settings,
        out=out,
        force=force,
        as_json=as_json,
        quiet=quiet,
        resume=resume,
    )
    return exit_code(rows, min_psnr)


def _name_files(source: Path, out: Path) -> Files:
    if is_seed_name(source):
        return {"output": out / f"{source.stem.removesuffix('.seed')}.recon.png"}
    endings = {"output": "recon.png", "seed_file": "seed.safetensors", "compare_file": "compare.png"}
    return {field: out / f"{source.stem}.{ending}" for field, ending in endings.items()}


def _run(
    inputs: Sequence[Path], model: "Model", settings: Settings, on_progress: "OnProgress"
) -> Sequence[Any]:
    from invrecon import pipeline

    if is_seed_name(inputs[0]):  # alone
        return attempt(lambda: pipeline.reconstruct(inputs[0], model, settings, on_progress))
    return pipeline.reconstruct_batch(inputs, model, settings, on_progress)


def _keep(result: "Reconstruction", files: Files) -> Row:
    from invrecon.image import save_png
    from invrecon.seedfile import save_seed

    if "compare_file" in files:
        save_seed(result.seed, files["seed_file"])
        save_png(_sheet(result), files["compare_file"])
    save_png(result.picture, files["output"])
    return figures_of(result)


def figures_of(result: "Reconstruction") -> Row:
    """The fields of a row that a reconstruction fills."""
    figures = inversion_figures(result.inversion) if result.inversion else {}
    return figures | {name: getattr(result, name) for name in _FIGURES}


def _sheet(result: "Reconstruction") -> "Image":
    from invrecon.sheet import Panel, compare_sheet, error_map

    pictures = (
        ("original", "", result.original),
        ("autoencoder only", _decibels(result.encoder_ceiling_db), result.autoencoded),
        ("plain DDIM inversion", _decibels(result.ddim_psnr), result.ddim),
        ("invrecon", _decibels(result.psnr), result.square),
    )
    panels = [Panel(title, note, picture) for title, note, picture in pictures if picture]
    error = error_map(panels[0].image, panels[-1].image, gain=8)
    return compare_sheet([*panels, Panel("error of invrecon", "brightened 8 times", error)])


def _decibels(psnr: float | None) -> str:
    return "" if psnr is None else f"PSNR {psnr:.2f} dB"
