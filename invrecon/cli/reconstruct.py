"""`invrecon reconstruct`: photos to seeds and back, or seed files to pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invrecon.cli import options
from invrecon.cli.batch import Files, Save, attempt, exit_code, run_batch
from invrecon.cli.command import BATCH_CODES, command
from invrecon.cli.dataset import Gathering, ResumablePictures, gather
from invrecon.cli.output import Tables
from invrecon.cli.results import JSON_FIELDS, Row, reconstruction_figures
from invrecon.formats import is_seed_file
from invrecon.settings import Settings

if TYPE_CHECKING:
    from PIL.Image import Image

    from invrecon.models import Model
    from invrecon.pipeline import OnProgress, Reconstruction


@command(
    examples=[
        "invrecon reconstruct photo.jpg",
        "invrecon reconstruct photo.seed.safetensors --out again",
        "invrecon reconstruct *.jpg --out results --batch-size 4 --json > results.jsonl",
        "invrecon reconstruct photo.jpg --steps 20 --min-psnr 25",
        'invrecon reconstruct photo.jpg --prompt "a red apple" --guidance-scale auto',
        "invrecon reconstruct photos --recursive --sidecars --keep-tree --out results --resume",
    ],
    codes=BATCH_CODES,
)
def reconstruct(
    inputs: options.Named = None,
    *,
    gathering: Gathering,
    target: ResumablePictures,
    output: Tables,
    min_psnr: options.MinPsnr = None,
    settings: Settings,
) -> int:
    """Invert photos and regenerate them from their seeds alone.

    Writes NAME.recon.png, NAME.seed.safetensors and NAME.compare.png for each photo, and NAME.recon.png for
    each seed file, whose own prompt, steps, guidance and size are used.
    """
    sources = gather(inputs, gathering, target, settings.prompt)
    return exit_code(run_batch(_Reconstruct(), sources, settings, target, output), min_psnr)


class _Reconstruct:
    fields = JSON_FIELDS

    def name_files(self, source: Path) -> dict[str, str]:
        if is_seed_file(source):
            return {"output": f"{source.stem.removesuffix('.seed')}.recon.png"}
        endings = {"output": "recon.png", "seed_file": "seed.safetensors", "compare_file": "compare.png"}
        return {field: f"{source.stem}.{ending}" for field, ending in endings.items()}

    def run(
        self,
        inputs: Sequence[Path],
        model: "Model",
        settings: Settings | Sequence[Settings],
        on_progress: "OnProgress",
    ) -> Sequence[Any]:
        from invrecon import pipeline

        if is_seed_file(inputs[0]):  # alone
            assert isinstance(settings, Settings)
            return attempt(lambda: pipeline.reconstruct(inputs[0], model, settings, on_progress))
        return pipeline.reconstruct_batch(inputs, model, settings, on_progress)

    def keep(self, result: "Reconstruction", files: Files, save: Save) -> Row:
        from invrecon.pipeline.about import kind_of

        seed = result.seed
        sha256 = save.seed(seed, files["seed_file"]) if "seed_file" in files else seed.sha256
        if "compare_file" in files:
            save.png(_sheet(result), files["compare_file"], seed.header, "comparison")
        save.png(result.picture, files["output"], seed.header, kind_of(seed), sha256)
        return reconstruction_figures(result)


def _sheet(result: "Reconstruction") -> "Image":
    """Of a photo: what came of it beside its peers, and below the part with the largest error, enlarged."""
    from invrecon.sheet import Panel, contact_sheet, details, error_map, worst_part

    pictures = (
        ("original", "", result.original),
        ("autoencoder only", _decibels(result.encoder_ceiling_db), result.autoencoded),
        ("plain DDIM inversion", _decibels(result.ddim_psnr), result.ddim),
        ("invrecon", _decibels(result.psnr), result.square),
    )
    panels = [Panel(title, note, picture) for title, note, picture in pictures if picture]
    assert result.inversion  # as all that is of a photo
    ends = panels[0].image, panels[-1].image
    box = worst_part(*ends, within=result.inversion.subject.canvas.seen)
    panels.append(Panel("error of invrecon", "brightened 8 times", error_map(*ends, gain=8)))
    return contact_sheet([panels, details(panels, box)], columns=len(panels))


def _decibels(psnr: float | None) -> str:
    return "" if psnr is None else f"PSNR {psnr:.2f} dB"
