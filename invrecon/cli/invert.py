"""`invrecon invert`: photos to seed files."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invrecon.cli import options
from invrecon.cli.batch import Files, Save, exit_code, run_batch
from invrecon.cli.command import BATCH_CODES, command
from invrecon.cli.dataset import Gathering, Resumable, gather
from invrecon.cli.output import Tables
from invrecon.cli.results import JSON_FIELDS, Row, inversion_figures
from invrecon.errors import InputError, UsageError
from invrecon.formats import is_seed_file
from invrecon.settings import Boosting, Settings

if TYPE_CHECKING:
    from torch import Tensor

    from invrecon.models import Model
    from invrecon.pipeline import OnProgress, PhotoInversion


@command(
    examples=[
        "invrecon invert photo.jpg",
        "invrecon invert *.jpg --out seeds --batch-size 4 --json > seeds.jsonl",
        "invrecon invert photo.jpg --config configs/smoke.toml",
        "invrecon invert picture.png --compare-noise key.safetensors",
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
        bool,
        typer.Option(
            "--boost",
            help="Boost the image latents above the autoencoder's own (ILB). Better, and slower.",
            rich_help_panel=Boosting.title,
        ),
    ] = False,
    compare_noise: Annotated[
        Path | None,
        typer.Option(
            "--compare-noise",
            metavar="KEY",
            help="Compare the seeds with this seed file or lone tensor, as for a watermark.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    settings: Settings,
) -> int:
    """Find the seed noise of photos.

    Writes NAME.seed.safetensors for each photo.
    """
    if compare_noise and target.resumes:
        raise UsageError(
            "seeds taken over by --resume aren't compared: leave out --compare-noise or --resume"
        )
    sources = gather(photos, gathering, target, settings.prompt)
    job = _Invert() if compare_noise is None else _Compare(_key(compare_noise))
    rows = run_batch(job, sources, replace(settings, boost=boost), target, output)
    for row in rows:
        if noise := row.get("noise"):
            output.line(f"{row['input']}: {_told(noise)}")
    return exit_code(rows)


def _key(path: Path) -> "Tensor":
    from invrecon.seedfile import load_key

    return load_key(path)


def _told(noise: dict[str, float]) -> str:
    return (
        f"correlation with the key {noise['correlation']:+.4f}, which independent noise reaches with "
        f"probability {noise['chance']:.2g}; distance {noise['distance']:.4f}, by chance "
        f"{noise['chance_distance']:.4f}"
    )


class _Invert:
    fields: Sequence[str] = JSON_FIELDS

    def name_files(self, source: Path) -> dict[str, str]:
        if is_seed_file(source):
            raise InputError("is a seed file already; `invrecon reconstruct` takes it")
        name = f"{source.stem}.seed.safetensors"
        return {"output": name, "seed_file": name}

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


class _Compare(_Invert):
    """Seeds are compared with a key; a row then has `noise`."""

    fields = (*JSON_FIELDS, "noise")

    def __init__(self, key: "Tensor") -> None:
        self.key = key

    def keep(self, result: "PhotoInversion", files: Files, save: Save) -> Row:
        from invrecon.core.noise import resemblance

        latents = result.seed.latents
        if self.key.numel() != latents.numel() or tuple(self.key.shape[-2:]) != tuple(latents.shape[-2:]):
            raise InputError(
                f"the key is {tuple(self.key.shape)} and the seed {tuple(latents.shape)}: choose the "
                "key's size with --size and --fit crop"
            )
        return super().keep(result, files, save) | {"noise": asdict(resemblance(latents, self.key))}
