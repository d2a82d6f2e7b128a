"""`invrecon imagine`: a few photos of something to new pictures of it, and paths from photo to photo."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from invrecon.cli.batch import Save, load
from invrecon.cli.boundary import say
from invrecon.cli.command import CODES, command
from invrecon.cli.gallery import Gallery, Report, figures_of
from invrecon.cli.inputs import PictureTarget, check_output, failure, make_folder
from invrecon.cli.output import Tables
from invrecon.cluster.checks import check_header, check_input
from invrecon.errors import InputError, InvreconError, ModelError, UsageError
from invrecon.settings import AutoGuidance, Boosting, Imagining, Settings, settings_of

if TYPE_CHECKING:
    from invrecon.models import Model
    from invrecon.pipeline import Reference


@command(
    examples=[
        'invrecon imagine fig1.jpg fig2.jpg --prompt "a photo of a fig" -n 8',
        'invrecon imagine photos/ --prompt "a photo of a fig" --guidance-scale 3 --spread 0.5 --out figs',
        'invrecon imagine fig.seed.safetensors --prompt "a photo of a fig" --refine 10',
        "invrecon imagine --path fig.jpg drum.jpg --frames 24 --gif --out path",
    ],
    codes={
        0: "all pictures are done, from all references",
        1: "a reference failed (the others are still used), or invrecon itself did",
        2: CODES[2],
        130: CODES[130],
    },
    without=["batch_size", *settings_of(Boosting), *settings_of(AutoGuidance)],
)
def imagine(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PHOTO", help="References: photos in any common format, folders of them, seed files."
        ),
    ] = None,
    path: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="A B",
            help="Make pictures on the way from photo or seed A to B.",
            rich_help_panel=Imagining.title,
        ),
    ] = None,
    gif: Annotated[
        bool,
        typer.Option(
            "--gif", help="With --path: write the way as an animation too.", rich_help_panel=Imagining.title
        ),
    ] = False,
    *,
    imagining: Imagining,
    target: PictureTarget,
    output: Tables,
    settings: Settings,
) -> int:
    """Make new pictures of what a few photos show.

    Inverts the references, makes new seeds around and between theirs on the Gaussian shell, and regenerates
    them under --prompt with --guidance-scale. Writes imagine-01.png and imagine-01.seed.safetensors and so
    on, and imagine-sheet.png with the references first. With --path the same as path-01 and so on,
    path-sheet.png, and with --gif path.gif.
    """
    if settings.auto_guidance:
        raise UsageError(
            "guidance of new pictures has no photo to be measured by: give --guidance-scale a number"
        )
    _check(bool(sources), bool(path), gif, imagining)
    make_folder(target.out)
    report = Report(output)
    run = _Run(_unfold(sources or [], report), list(path or ()), imagining, target, gif)
    run.check()
    model, references = _invert([*run.photos, *run.ends], settings, report)
    if model:
        run.make(model, references, settings, report)
    report.finish()
    return 1 if any(row.get("error") for row in report.rows) else 0


def _check(around: bool, way: bool, gif: bool, imagining: Imagining) -> None:
    """Raises UsageError where what is asked for has nothing to start from."""
    if not (around or way):
        raise UsageError("give photos to start from, or two with --path")
    if gif and not way:
        raise UsageError("--gif is the animation of a --path")
    if imagining.refine and not around:
        raise UsageError("--refine is for pictures around photos: the seeds of a --path stay on it")


class _Run:
    """New pictures around photos, and those on the way between two ends."""

    def __init__(
        self, photos: list[Path], ends: list[Path], imagining: Imagining, target: PictureTarget, gif: bool
    ) -> None:
        self.photos, self.ends, self.imagining, self.target = photos, ends, imagining, target
        self.around = Gallery(target.out / "imagine", imagining.count, columns=4)
        self.way = Gallery(target.out / "path", imagining.frames, columns=16, gif=gif)

    def check(self) -> None:
        """Raises InputError where a file can't be written."""
        planned = [*(self.around.files() if self.photos else ()), *(self.way.files() if self.ends else ())]
        for file in planned:
            check_output(file, [*self.photos, *self.ends], {}, self.target.force)

    def make(
        self, model: "Model", references: "dict[Path, Reference]", settings: Settings, report: Report
    ) -> None:
        from invrecon.pipeline import imagine, interpolate

        save, imagining = Save(self.target.force, metadata=self.target.metadata), self.imagining
        around = {source: references[source] for source in self.photos if source in references}
        if around:
            if imagining.spread == 0 and len(around) == 1 and imagining.count > 1:
                say("warning: one reference with --spread 0 gives the same picture each time")
            new = partial(imagine, list(around.values()), model, settings, imagining)
            self.around.write(around, new, report, save)
        if self.ends and all(end in references for end in self.ends):
            first, last = (references[end] for end in self.ends)
            way = partial(interpolate, first, last, model, settings, imagining)
            self.way.write({end: references[end] for end in self.ends}, way, report, save)


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
    from invrecon.image import is_photo_file

    pictures = sorted(
        path for path in folder.iterdir() if not path.name.startswith(".") and is_photo_file(path)
    )
    if not pictures:
        raise InputError("is a folder without pictures")
    return pictures


def _invert(
    sources: Sequence[Path], settings: Settings, report: Report
) -> "tuple[Model | None, dict[Path, Reference]]":
    """Inverts photos and reads seed files. One that can't be used is told and left out.

    Without any that can, no model is loaded.
    """
    distinct = list(dict.fromkeys(sources))
    errors = {source: error for source in distinct if (error := _error_of(source))}
    model: Model | None = None
    references: dict[Path, Reference] = {}
    if usable := [source for source in distinct if source not in errors]:
        from invrecon import pipeline

        model = load(settings, report.output)
        common = pipeline.of_common_size(usable, model, settings)
        if common != settings:
            say(f"all references are seen at {common.size} pixels; --size WIDTHxHEIGHT takes another shape")
    for number, source in enumerate(distinct, 1):
        try:
            if model is None or source in errors:
                raise errors[source]
            with report.output.progress(f"{number}/{len(distinct)} {source.name}") as on_progress:
                one = pipeline.find_reference(source, model, common, on_progress)
        except (UsageError, ModelError):
            raise  # no reference can be used with these
        except (InvreconError, OSError) as error:
            report.add({"kind": "reference"} | failure(source, error))
        else:
            references[source] = one
            if one.advice:
                say(f"warning: {source}: {one.advice}")
            report.add({"kind": "reference", "input": source} | figures_of(one))
    return model, references


def _error_of(source: Path) -> InputError | OSError | None:
    """Why an input can't be a photo or a seed file; None where it can."""
    try:
        check_input(source)
        check_header(source)
    except (InputError, OSError) as error:
        return error
    return None
