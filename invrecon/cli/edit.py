"""`invrecon edit`: photos or seed files, with something in them changed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from invrecon.cli import options
from invrecon.cli.batch import exit_code, run_batch
from invrecon.cli.command import command
from invrecon.cli.dataset import Resumable
from invrecon.cli.edit_job import EditJob
from invrecon.cli.inputs import PictureTarget, pair_photos
from invrecon.cli.output import Tables
from invrecon.cli.sweep import parse_sweep, part_sweeps
from invrecon.cluster.listing import Lister
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
    inversion: Annotated[
        str,
        typer.Option(
            "--inversion",
            metavar="|".join(INVERSIONS),
            help="How a photo's seed is found; ddim is quicker and less exact.",
        ),
    ] = "lbo"


@command(
    examples=[
        'invrecon edit photo.jpg --prompt "a fig on a blue ground" --to "a fig on a red ground" --auto-mask',
        'invrecon edit photo.jpg --prompt "a cat" --to "a dog" --mask mask.png --mode swap',
        'invrecon edit x.seed.safetensors --photo x.jpg --to "a pear" --sweep guidance=3,5 cross-steps=0.4',
        "invrecon edit photo.edit.seed.safetensors --out again",
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
    inputs: options.Inputs,
    wishes: _Wishes,
    changes: Annotated[dict[str, Any], EditSettings],
    target: PictureTarget,
    output: Tables,
    photos: options.Photos = None,
    min_psnr: options.MinPsnr = None,
    *,
    settings: Settings,
) -> int:
    """Change something in photos and keep the rest.

    Writes NAME.edit.png, NAME.edit.seed.safetensors, which repeats the edit without further options, and
    NAME.edit.compare.png for each input; NAME.edit-1.png and so on where there are several edits. PSNR and
    --min-psnr are of the plain reconstruction.
    """
    inputs, sweeps = part_sweeps(inputs, wishes.sweep)
    if weights := _weights(wishes.weight):
        changes = changes | {"weights": weights}
    mode = changes.get("mode", EditSettings.mode if wishes.to else None)
    swept = parse_sweep(sweeps, mode)
    job = EditJob(
        _combine(changes, swept, wishes.to),
        set(swept[0]),
        _for_each("--mask", wishes.mask, inputs),
        pair_photos(inputs, photos or [], needed=False),
        _inversion(wishes.inversion),
    )
    if not wishes.to and not all(map(is_seed_file, inputs)):
        raise UsageError("say what the picture should show with --to")
    sources = list(Lister().sources(map(str, inputs)))
    destination = Resumable(out=str(target.out), force=target.force, metadata=target.metadata)
    rows = run_batch(job, sources, replace(settings, batch_size=1), destination, output)
    return exit_code(rows, min_psnr)


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


def _for_each(option: str, paths: Sequence[Path] | None, inputs: Sequence[Path]) -> dict[Path, Path]:
    """One path for all inputs, or one for each."""
    if not paths:
        return {}
    if len(paths) not in (1, len(inputs)):
        raise UsageError(f"{len(inputs)} inputs need one {option}, or as many, not {len(paths)}")
    return dict(zip(inputs, [*paths] * (len(inputs) if len(paths) == 1 else 1), strict=True))
