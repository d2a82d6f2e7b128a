"""`invrecon boost`: photos, or seed files with their photos, to boosted seeds and their pictures."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invrecon.cli import options
from invrecon.cli.batch import Files, attempt, exit_code, is_seed_name, run_batch
from invrecon.cli.boundary import EXIT_CODES
from invrecon.cli.output import Row
from invrecon.cli.reconstruct import figures_of
from invrecon.errors import UsageError
from invrecon.settings import Settings

if TYPE_CHECKING:
    from invrecon.models import Model
    from invrecon.pipeline import OnProgress, Reconstruction

EPILOG = f"""\b
Examples:
  invrecon boost photo.jpg
  invrecon boost photo.seed.safetensors --photo photo.jpg
  invrecon boost *.jpg --out boosted --target-psnr 30 --max-seconds 60
  invrecon boost photo.jpg --decoder-ceiling --json

{EXIT_CODES}"""


@options.takes_settings(without=("boost",))
def boost(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT", help="Photos in any common format, or seed files.")
    ],
    photos: options.Photos = None,
    out: options.Out = Path("."),
    force: options.Force = False,
    resume: options.Resume = False,
    min_psnr: options.MinPsnr = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    *,
    settings: Settings,
) -> int:
    """Lift image latents above the autoencoder's own, and find the seeds of what comes out.

    Writes NAME.boosted.seed.safetensors and NAME.boosted.png for each input. A seed file's prompt, steps, guidance, size and
    fit are those of its header.
    """
    seeds = [source for source in inputs if is_seed_name(source)]
    if len(seeds) != len(photos or []):
        raise UsageError(f"{len(seeds)} seed files need as many --photo, not {len(photos or [])}")
    run = partial(_run, dict(zip(seeds, photos or [], strict=True)))
    rows = run_batch(
        inputs,
        run,
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
    name = source.stem.removesuffix(".seed")
    return {"output": out / f"{name}.boosted.png", "seed_file": out / f"{name}.boosted.seed.safetensors"}


def _run(
    photos: dict[Path, Path],
    inputs: Sequence[Path],
    model: "Model",
    settings: Settings,
    on_progress: "OnProgress",
) -> Sequence[Any]:
    from invrecon import pipeline

    if is_seed_name(inputs[0]):  # alone
        return attempt(
            lambda: pipeline.boost(inputs[0], model, settings, on_progress, photo=photos[inputs[0]])
        )
    return pipeline.reconstruct_batch(inputs, model, replace(settings, boost=True), on_progress)


def _keep(result: "Reconstruction", files: Files) -> Row:
    from invrecon.image import save_png
    from invrecon.seedfile import save_seed

    save_seed(result.seed, files["seed_file"])
    save_png(result.picture, files["output"])
    return figures_of(result)
