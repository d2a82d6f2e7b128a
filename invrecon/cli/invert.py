"""`invrecon invert`: photos to seed files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invrecon.cli import options
from invrecon.cli.batch import Files, Save, exit_code, run_batch
from invrecon.cli.command import BATCH_CODES, command
from invrecon.cli.dataset import Gathering, Resumable, gather
from invrecon.cli.output import Tables
from invrecon.cli.results import JSON_FIELDS, Row, inversion_figures
from invrecon.errors import InputError
from invrecon.formats import is_seed_file
from invrecon.settings import Settings

if TYPE_CHECKING:
    from invrecon.models import Model
    from invrecon.pipeline import OnProgress, PhotoInversion


@command(
    examples=[
        "invrecon invert photo.jpg",
        "invrecon invert *.jpg --out seeds --batch-size 4 --json > seeds.jsonl",
        "invrecon invert photo.jpg --config configs/smoke.toml",
    ],
    codes=BATCH_CODES,
    without=["boost", "decoder_ceiling"],
)
def invert(
    photos: options.Named = None,
    *,
    gathering: Gathering,
    target: Resumable,
    output: Tables,
    boost: Annotated[
        bool, typer.Option("--boost", help="Boost the image latents above the autoencoder's own (ILB).")
    ] = False,
    settings: Settings,
) -> int:
    """Find the seed noise of photos.

    Writes NAME.seed.safetensors for each photo.
    """
    sources = gather(photos, gathering, target, settings.prompt)
    return exit_code(run_batch(_Invert(), sources, replace(settings, boost=boost), target, output))


class _Invert:
    fields = JSON_FIELDS

    def name_files(self, source: Path, out: Path) -> Files:
        if is_seed_file(source):
            raise InputError("is a seed file already; `invrecon reconstruct` takes it")
        path = out / f"{source.stem}.seed.safetensors"
        return {"output": path, "seed_file": path}

    def run(
        self,
        inputs: Sequence[Path],
        model: "Model",
        settings: Settings | Sequence[Settings],
        on_progress: "OnProgress",
    ) -> Sequence[Any]:
        from invrecon import pipeline

        return pipeline.invert_batch(inputs, model, settings, on_progress)

    def keep(self, result: "PhotoInversion", files: Files, save: Save) -> Row:
        save.seed(result.seed, files["seed_file"])
        return inversion_figures(result)
