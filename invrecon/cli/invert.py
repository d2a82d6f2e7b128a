"""`invrecon invert`: photos to seed files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invrecon.cli import options
from invrecon.cli.batch import Files, exit_code, is_seed_name, run_batch
from invrecon.cli.boundary import EXIT_CODES
from invrecon.cli.output import Row, inversion_figures
from invrecon.errors import InputError
from invrecon.settings import Settings

if TYPE_CHECKING:
    from invrecon.models import Model
    from invrecon.pipeline import OnProgress, PhotoInversion

EPILOG = f"""\b
Examples:
  invrecon invert photo.jpg
  invrecon invert *.jpg --out seeds --batch-size 4 --json > seeds.jsonl
  invrecon invert photo.jpg --config configs/smoke.toml

{EXIT_CODES}"""


@options.takes_settings(without=("boost", "decoder_ceiling"))
def invert(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO", help="Photos in any common format.")],
    out: options.Out = Path("."),
    force: options.Force = False,
    resume: options.Resume = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    boost: Annotated[
        bool, typer.Option("--boost", help="Boost the image latents above the autoencoder's own (ILB).")
    ] = False,
    *,
    settings: Settings,
) -> int:
    """Find the seed noise of photos.

    Writes NAME.seed.safetensors for each photo.
    """
    settings = replace(settings, boost=boost)
    return exit_code(
        run_batch(
            photos,
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
    )


def _name_files(source: Path, out: Path) -> Files:
    if is_seed_name(source):
        raise InputError("is a seed file already; `invrecon reconstruct` takes it")
    path = out / f"{source.stem}.seed.safetensors"
    return {"output": path, "seed_file": path}


def _run(
    photos: Sequence[Path], model: "Model", settings: Settings, on_progress: "OnProgress"
) -> Sequence[Any]:
    from invrecon import pipeline

    return pipeline.invert_batch(photos, model, settings, on_progress)


def _keep(inversion: "PhotoInversion", files: Files) -> Row:
    from invrecon.seedfile import save_seed

    save_seed(inversion.seed, files["seed_file"])
    return inversion_figures(inversion)
