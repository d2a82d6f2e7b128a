"""`invrecon imagine`: a few photos of something to new pictures of it, and the way from one photo to another."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from invrecon.cli import options
from invrecon.cli.batch import check_input, check_output, failure, load, make_folder
from invrecon.cli.boundary import say
from invrecon.cli.gallery import Report, figures_of, name_files, write
from invrecon.cli.output import progress_bar
from invrecon.errors import InputError, InvreconError, ModelError, UsageError
from invrecon.settings import Imagining, Settings

if TYPE_CHECKING:
    from invrecon.models import Model
    from invrecon.pipeline import Reference

EPILOG = """\b
Examples:
  invrecon imagine fig1.jpg fig2.jpg --prompt "a photo of a fig" -n 8
  invrecon imagine photos/ --prompt "a photo of a fig" --guidance-scale 3 --spread 0.5 --out figs
  invrecon imagine fig.seed.safetensors --prompt "a photo of a fig" --refine 10
  invrecon imagine --path fig.jpg drum.jpg --frames 24 --gif --out path

\b
Exit codes:
  0    all pictures are done, from all references
  1    a reference failed (the others are still used), or invrecon itself did
  2    wrong usage: a bad option, preset, output folder or model
  130  interrupted; every file there is complete"""

_PICTURES = {
    ".png",
    ".jpg",
    ".jpeg",
    ".mpo",
    ".webp",
    ".tif",
    ".tiff",
    ".bmp",
    ".dib",
    ".gif",
    ".ppm",
    ".pgm",
    ".pbm",
    ".avif",
    ".tga",
}
_BOOSTING = (
    "boost_rounds",
    "decoder_steps",
    "proximal_weight",
    "perceptual_weight",
    "target_psnr",
    "max_seconds",
    "decoder_ceiling",
)


@options.takes_settings(without=("boost", "batch_size", *_BOOSTING, *options.GUIDANCE_SEARCH))
def imagine(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PHOTO", help="References: photos in any common format, folders of them, seed files."
        ),
    ] = None,
    count: Annotated[
        int, typer.Option("--count", "-n", metavar="INT", help="How many pictures.")
    ] = Imagining.count,
    spread: Annotated[
        float,
        typer.Option(
            metavar="FLOAT", help="Distance from the references: 0 only their own mixtures, 1 fresh noise."
        ),
    ] = Imagining.spread,
    refine: Annotated[
        int,
        typer.Option(
            metavar="INT",
            help="Gradients that draw each seed to the nearest reference; slow, 40 evaluations each.",
        ),
    ] = Imagining.refine,
    path: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A B", help="Pictures on the way from photo or seed A to B."),
    ] = None,
    frames: Annotated[
        int, typer.Option(metavar="INT", help="How many pictures the way has.")
    ] = Imagining.frames,
    path_kind: Annotated[
        str,
        typer.Option(
            metavar="shell|slerp|linear", help="Along the Gaussian shell, or one of the usual baselines."
        ),
    ] = Imagining.path_kind,
    gif: Annotated[bool, typer.Option("--gif", help="Write the way as an animation too.")] = False,
    out: options.Out = Path("."),
    force: options.Force = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line for each reference and each result.")
    ] = False,
    quiet: options.Quiet = False,
    *,
    settings: Settings,
) -> int:
    """Make new pictures of what a few photos show.

    Inverts the references, makes new seeds around and between theirs on the Gaussian shell, and regenerates them under --prompt
    with --guidance-scale. Writes imagine-01.png and imagine-01.seed.safetensors and so on, and imagine-sheet.png with the
    references first. With --path the same as path-01 and so on, path-sheet.png, and with --gif path.gif.
    """
    if settings.auto_guidance:
        raise UsageError(
            "guidance of new pictures has no photo to be measured by: give --guidance-scale a number"
        )
    imagining = Imagining(count, spread, refine, frames, path_kind)  # type: ignore[arg-type]
    if not (sources or path):
        raise UsageError("give photos to start from, or two with --path")
    if gif and not path:
        raise UsageError("--gif is the animation of a --path")
    if refine and not sources:
        raise UsageError("--refine is for pictures around photos: the seeds of a --path stay on it")
    make_folder(out)
    report = Report(as_json, quiet)
    photos, ends = _unfold(sources or [], report), list(path or ())
    planned = [
        *(name_files(out / "imagine", count) if photos else []),
        *(name_files(out / "path", frames, gif) if ends else []),
    ]
    for file in planned:
        check_output(file, [*photos, *ends], {}, force)
    model, found = _find([*photos, *ends], settings, report)
    if model:
        _make(model, found, photos, ends, settings, imagining, out, report, gif)
    report.finish()
    return 1 if any(row.get("error") for row in report.rows) else 0


def _unfold(sources: Sequence[Path], report: Report) -> list[Path]:
    """The files meant, each once: for a folder the pictures in it, by their names."""
    files: list[Path] = []
    for source in sources:
        try:
            files += _pictures_in(source) if source.is_dir() else [source]
        except (InputError, OSError) as error:
            report.add({"kind": "reference"} | failure(source, error))
    return list(dict.fromkeys(files))


def _pictures_in(folder: Path) -> list[Path]:
    pictures = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in _PICTURES and not path.name.startswith(".")
    )
    if not pictures:
        raise InputError("is a folder without pictures")
    return pictures


def _find(
    sources: Sequence[Path], settings: Settings, report: Report
) -> "tuple[Model | None, dict[Path, Reference]]":
    """Inverts photos and reads seed files. One that can't be used is told and left out; without any, no model is loaded."""
    model, found = None, {}
    distinct = list(dict.fromkeys(sources))
    for number, source in enumerate(distinct, 1):
        try:
            check_input(source)
            model = model or load(settings, report.quiet)
            from invrecon import pipeline

            with progress_bar(f"{number}/{len(distinct)} {source.name}", report.quiet) as on_progress:
                found[source] = one = pipeline.find_reference(source, model, settings, on_progress)
        except (UsageError, ModelError):
            raise  # no reference can be used with these
        except (InvreconError, OSError) as error:
            report.add({"kind": "reference"} | failure(source, error))
        else:
            if one.advice:
                say(f"warning: {source}: {one.advice}")
            report.add({"kind": "reference", "input": source} | figures_of(one))
    return model, found


def _make(
    model: "Model",
    found: "dict[Path, Reference]",
    photos: Sequence[Path],
    ends: Sequence[Path],
    settings: Settings,
    imagining: Imagining,
    out: Path,
    report: Report,
    gif: bool,
) -> None:
    from invrecon.pipeline import imagine, interpolate

    around = {source: found[source] for source in photos if source in found}
    if around:
        if imagining.spread == 0 and len(around) == 1 and imagining.count > 1:
            say("warning: one reference with --spread 0 gives the same picture each time")
        new = partial(imagine, list(around.values()), model, settings, imagining)
        write(out / "imagine", imagining.count, around, new, report, columns=4)
    if ends and all(end in found for end in ends):
        way = partial(interpolate, found[ends[0]], found[ends[1]], model, settings, imagining)
        write(
            out / "path",
            imagining.frames,
            {end: found[end] for end in ends},
            way,
            report,
            columns=16,
            gif=gif,
        )
