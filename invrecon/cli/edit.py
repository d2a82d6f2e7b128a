"""`invrecon edit`: photos or seed files, with something in them changed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from invrecon.cli import options
from invrecon.cli.batch import exit_code, run_batch
from invrecon.cli.command import command
from invrecon.cli.dataset import Gathering, Resumable, gather
from invrecon.cli.edit_job import EditJob
from invrecon.cli.inputs import PictureTarget, pair_photos
from invrecon.cli.output import Tables
from invrecon.cli.sweep import parse_sweep, part_sweeps
from invrecon.cluster.captions import Captions, read_captions, read_local
from invrecon.cluster.source import Source
from invrecon.errors import UsageError
from invrecon.formats import is_seed_file
from invrecon.settings import INVERSIONS, AutoGuidance, EditSettings, Settings, settings_of


@dataclass(frozen=True)
class _Wishes:
    """What is to be changed, beside the settings of an edit."""

    title = EditSettings.title

    to: Annotated[
        list[str] | None,
        typer.Option(
            "--to",
            metavar="TEXT",
            help="What the picture should show, in words; give it again for more edits.",
            rich_help_panel=options.FIRST,
        ),
    ] = None
    weight: Annotated[
        list[str] | None,
        typer.Option(
            "--weight",
            metavar="WORD=FLOAT",
            help="p2p: attention to a word of --to, 1 as usual; more of it makes the word count more.",
        ),
    ] = None
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            metavar="NAME=VALUE,...",
            help="Make all combinations of these values of options, to choose from.",
        ),
    ] = None
    mask: Annotated[
        list[Path] | None,
        typer.Option(
            "--mask",
            metavar="FILE",
            help="Picture of the photo's size: what is white in it may change. One for all photos, or one "
            "for each.",
        ),
    ] = None
    targets: Annotated[
        Path | None,
        typer.Option(
            "--targets", metavar="FILE", help="What each photo should show, by its name, as in --captions."
        ),
    ] = None
    photos: options.Photos = None
    inversion: Annotated[
        str,
        typer.Option(
            "--inversion",
            metavar="|".join(INVERSIONS),
            help="How a photo's seed is found; ddim is quicker and less exact.",
        ),
    ] = "lbo"


@dataclass(frozen=True)
class _Place(PictureTarget):
    """Where results go, and under what names."""

    keep_tree: Annotated[
        bool,
        typer.Option(
            "--keep-tree",
            help="Put results in folders like those of the inputs, where photos have the same names.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = False


@command(
    examples=[
        'invrecon edit photo.jpg --prompt "a fig on a blue ground" --to "a fig on a red ground" --auto-mask',
        'invrecon edit photo.jpg --prompt "a cat" --to "a dog" --mask mask.png --mode swap',
        'invrecon edit x.seed.safetensors --photo x.jpg --to "a pear" --sweep guidance=3,5 cross-steps=0.4',
        "invrecon edit photo.edit.seed.safetensors --out again",
        'invrecon edit photo.jpg --model sd3 --prompt "a cat" --to "a dog" --mode inject --to-step 0.3',
        "invrecon edit photos/*.jpg --captions now.json --targets then.json --auto-mask --out edits",
    ],
    without=[
        "guidance_scale",
        "negative_prompt",
        "decoder_ceiling",
        "batch_size",
        *settings_of(AutoGuidance),
    ],
)
def edit(
    inputs: options.Named = None,
    *,
    gathering: Gathering,
    wishes: _Wishes,
    changes: Annotated[dict[str, Any], EditSettings],
    target: _Place,
    output: Tables,
    min_psnr: options.MinPsnr = None,
    settings: Settings,
) -> int:
    """Change something in photos and keep the rest.

    Writes NAME.edit.png, NAME.edit.seed.safetensors, which repeats the edit without further options, and
    NAME.edit.compare.png for each input; NAME.edit-1.png and so on where there are several edits. PSNR and
    --min-psnr are of the plain reconstruction. Mode flowedit needs no seed, and writes none of a photo.
    """
    named, sweeps = part_sweeps(inputs or [], wishes.sweep)
    destination = Resumable(
        out=str(target.out), force=target.force, keep_tree=target.keep_tree, metadata=target.metadata
    )
    sources = gather(named, gathering, destination, settings.prompt)
    if weights := _weights(wishes.weight):
        changes = changes | {"weights": weights}
    targets = _targets(wishes, sources)
    if targets is not None and not wishes.to:
        lacking = f"isn't named in {wishes.targets}; add what it should show, or give --to"
        known = [source.path in targets for source in sources]
        sources = [
            one if there else replace(one, problem=one.problem or lacking)
            for one, there in zip(sources, known, strict=True)
        ]
    said = wishes.to or ([""] if wishes.targets else None)
    mode = changes.get("mode", EditSettings.mode if said else None)
    swept = parse_sweep(sweeps, mode)
    paths = [source.path or Path(source.name) for source in sources]
    job = EditJob(
        _combine(changes, swept, said),
        set(swept[0]),
        _for_each("--mask", wishes.mask, sources),
        pair_photos(paths, wishes.photos or [], needed=False),
        _inversion(wishes.inversion),
        targets,
    )
    if not said and not all(map(is_seed_file, paths)):
        raise UsageError("say what the picture should show with --to, or --targets")
    return exit_code(run_batch(job, sources, replace(settings, batch_size=1), destination, output), min_psnr)


def _targets(wishes: _Wishes, sources: Sequence[Source]) -> dict[Path, str] | None:
    """What each photo should show; None where all should show the same."""
    if not wishes.targets:
        return None
    if len(wishes.to or ()) > 1:
        raise UsageError("--targets takes one --to beside it, for photos that it doesn't name")
    captions = Captions(table=read_captions(wishes.targets))
    told = {
        path: captions.give(replace(source, prompt=None), read_local).prompt
        for path, source in _local("--targets", sources)
    }
    return {path: text for path, text in told.items() if text is not None}


def _local(option: str, sources: Sequence[Source]) -> list[tuple[Path, Source]]:
    """The sources with their files."""
    pairs = [(source.path, source) for source in sources]
    if any(path is None for path, _ in pairs):
        raise UsageError(f"{option} for each photo needs photos that are files here: fetch them first")
    return [(path, source) for path, source in pairs if path]


def _combine(
    changes: dict[str, Any], swept: Sequence[dict[str, Any]], texts: Sequence[str] | None
) -> list[dict[str, Any]]:
    """What each edit changes of a seed's own edit, or of the defaults; checked before a model loads."""
    wanted: list[dict[str, Any]] = [{"to": text} for text in texts or ()] or [{}]
    combined = [{**changes, **each, **text} for text in wanted for each in swept]
    for each in combined:
        EditSettings(**{"to": "", **each})
    return combined


def _weights(texts: Sequence[str] | None) -> dict[str, float]:
    try:
        return {word: float(weight) for word, weight in (text.rsplit("=", 1) for text in texts or ())}
    except ValueError as error:
        raise UsageError('a weight reads WORD=FLOAT, as in --weight "red=1.5"') from error


def _inversion(text: str) -> Literal["lbo", "ddim"]:
    if text == "lbo" or text == "ddim":
        return text  # type: ignore[return-value]
    raise UsageError(f"inversion must be one of {', '.join(INVERSIONS)}, not {text!r}")


def _for_each(
    option: str, paths: Sequence[Path] | None, sources: Sequence[Source]
) -> dict[Path | None, Path]:
    """One path for all inputs, under None, or one for each."""
    if not paths:
        return {}
    if len(paths) == 1:
        return {None: paths[0]}
    if len(paths) != len(sources):
        raise UsageError(f"{len(sources)} inputs need one {option}, or as many, not {len(paths)}")
    return {file: path for (file, _), path in zip(_local(option, sources), paths, strict=True)}
