"""`invrecon boost`: photos, or seed files with their photos, to boosted seeds and their pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invrecon.cli import options
from invrecon.cli.batch import Files, Save, attempt, exit_code, run_batch
from invrecon.cli.command import BATCH_CODES, command
from invrecon.cli.dataset import Gathering, ResumablePictures, gather
from invrecon.cli.inputs import pair_photos
from invrecon.cli.output import Tables
from invrecon.cli.results import JSON_FIELDS, Row, reconstruction_figures
from invrecon.errors import InputError
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
    codes=BATCH_CODES,
    without=["boost"],
)
def boost(
    inputs: options.Named = None,
    *,
    gathering: Gathering,
    target: ResumablePictures,
    output: Tables,
    photos: options.Photos = None,
    min_psnr: options.MinPsnr = None,
    settings: Settings,
) -> int:
    """Lift image latents above the autoencoder's own, and find the seeds of what comes out.

    Writes NAME.boosted.seed.safetensors and NAME.boosted.png for each input. A seed file's prompt, steps,
    guidance, size and fit are those of its header.
    """
    sources = gather(inputs, gathering, target, settings.prompt)
    named = [Path(source.address) for source in sources]
    job = _Boost(pair_photos(named, photos or [], needed=True))
    return exit_code(run_batch(job, sources, settings, target, output), min_psnr)


@dataclass(frozen=True)
class _Boost:
    photos: dict[Path, Path]  # of seed files
    fields: Sequence[str] = JSON_FIELDS

    def name_files(self, source: Path) -> dict[str, str]:
        name = source.stem.removesuffix(".seed")
        return {"output": f"{name}.boosted.png", "seed_file": f"{name}.boosted.seed.safetensors"}

    def run(
        self,
        inputs: Sequence[Path],
        model: "Model",
        settings: Settings | Sequence[Settings],
        on_progress: "OnProgress",
    ) -> Sequence[Any]:
        from invrecon import pipeline

        if is_seed_file(inputs[0]):  # alone
            return attempt(lambda: self._boost_seed(inputs[0], model, settings, on_progress))
        if isinstance(settings, Settings):
            return pipeline.reconstruct_batch(inputs, model, replace(settings, boost=True), on_progress)
        boosted = [replace(one, boost=True) for one in settings]
        return pipeline.reconstruct_batch(inputs, model, boosted, on_progress)

    def _boost_seed(
        self, seed: Path, model: "Model", settings: Settings | Sequence[Settings], on_progress: "OnProgress"
    ) -> "Reconstruction":
        from invrecon import pipeline

        if seed not in self.photos:
            raise InputError("is a copy of a remote seed file; fetch it, and give it by its path")
        assert isinstance(settings, Settings)  # seed files are done one by one
        return pipeline.boost(seed, model, settings, on_progress, photo=self.photos[seed])

    def keep(self, result: "Reconstruction", files: Files, save: Save) -> Row:
        sha256 = save.seed(result.seed, files["seed_file"])
        save.png(result.picture, files["output"], result.seed.header, "reconstruction", sha256)
        return reconstruction_figures(result)
