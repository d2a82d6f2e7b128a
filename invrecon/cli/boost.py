"""`invrecon boost`: photos, or seed files with their photos, to boosted seeds and their pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invrecon.cli import options
from invrecon.cli.batch import Files, Save, attempt, exit_code, run_batch
from invrecon.cli.command import command
from invrecon.cli.inputs import Resumable, pair_photos
from invrecon.cli.output import Tables
from invrecon.cli.results import JSON_FIELDS, Row, reconstruction_figures
from invrecon.formats import is_seed_file
from invrecon.settings import Settings

if TYPE_CHECKING:
    from invrecon.models import Model
    from invrecon.pipeline import OnProgress, Reconstruction


@command(
    examples=[
        "invrecon boost photo.jpg",
        "invrecon boost photo.seed.safetensors --photo photo.jpg",
        "invrecon boost *.jpg --out boosted --target-psnr 30 --max-seconds 60",
        "invrecon boost photo.jpg --decoder-ceiling --json",
    ],
    without=["boost"],
)
def boost(
    inputs: options.Inputs,
    target: Resumable,
    output: Tables,
    photos: options.Photos = None,
    min_psnr: options.MinPsnr = None,
    *,
    settings: Settings,
) -> int:
    """Lift image latents above the autoencoder's own, and find the seeds of what comes out.

    Writes NAME.boosted.seed.safetensors and NAME.boosted.png for each input. A seed file's prompt, steps,
    guidance, size and fit are those of its header.
    """
    job = _Boost(pair_photos(inputs, photos or [], needed=True))
    return exit_code(run_batch(job, inputs, settings, target, output), min_psnr)


@dataclass(frozen=True)
class _Boost:
    photos: dict[Path, Path]  # of seed files
    fields: Sequence[str] = JSON_FIELDS

    def name_files(self, source: Path, out: Path) -> Files:
        name = source.stem.removesuffix(".seed")
        return {
            "output": out / f"{name}.boosted.png",
            "seed_file": out / f"{name}.boosted.seed.safetensors",
        }

    def run(
        self, inputs: Sequence[Path], model: "Model", settings: Settings, on_progress: "OnProgress"
    ) -> Sequence[Any]:
        from invrecon import pipeline

        if is_seed_file(inputs[0]):  # alone
            photo = self.photos[inputs[0]]
            return attempt(lambda: pipeline.boost(inputs[0], model, settings, on_progress, photo=photo))
        return pipeline.reconstruct_batch(inputs, model, replace(settings, boost=True), on_progress)

    def keep(self, result: "Reconstruction", files: Files, save: Save) -> Row:
        save.seed(result.seed, files["seed_file"])
        save.png(result.picture, files["output"])
        return reconstruction_figures(result)
