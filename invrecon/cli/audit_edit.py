"""`invrecon audit-edit`: how well edits work, on cut-outs whose background is to change its colour."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invrecon.cli import options
from invrecon.cli.batch import load, make_folder
from invrecon.cli.output import print_table, progress_bar, strict
from invrecon.cli.sweep import parse_sweep, part_sweeps
from invrecon.errors import UsageError
from invrecon.settings import INVERSIONS, MODES, EditSettings, Settings, load_captions

if TYPE_CHECKING:
    from invrecon.audit.edits.trials import Trial

EPILOG = """\b
Examples:
  invrecon audit-edit cutouts/*.png
  invrecon audit-edit cutouts/*.png --from blue --to red --size 128 --steps 20 --out pictures
  invrecon audit-edit cutouts/*.png --sweep mode=p2p guidance=3,5 --masks auto --inversions lbo --json

\b
Exit codes:
  0    the table is whole
  1    a cut-out can't be used
  2    wrong usage: a bad option, colour, folder or model
  130  interrupted"""

_TITLES = ("edit", "mask", "inversion", "moved", "hue\nmedian", "object\n>= 22 dB", "both", "object dB\nmedian", "object dB\nworst",
           "outside mask\nloss dB", "seconds")  # fmt: skip


@options.takes_settings(
    without=(
        "prompt",
        "negative_prompt",
        "guidance_scale",
        "fit",
        "boost",
        "decoder_ceiling",
        "batch_size",
        *options.GUIDANCE_SEARCH,
    )
)
def audit_edit(
    cutouts: Annotated[
        list[Path],
        typer.Argument(metavar="CUTOUT", help="Pictures with transparency, named after what they show."),
    ],
    old: Annotated[
        str, typer.Option("--from", metavar="COLOUR", help="Of the background, to begin with.")
    ] = "blue",
    new: Annotated[str, typer.Option("--to", metavar="COLOUR", help="What the edit asks for.")] = "green",
    names: Annotated[
        Path | None,
        typer.Option(
            "--names", metavar="FILE", help="TOML or JSON: file name without ending = what it shows."
        ),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep", metavar="NAME=VALUE,...", help="Edits to try. [default: mode=" + ",".join(MODES) + "]"
        ),
    ] = None,
    masks: Annotated[
        str, typer.Option(metavar="LIST", help="Out of none, auto and drawn (the background's own).")
    ] = "none,auto,drawn",
    inversions: Annotated[str, typer.Option(metavar="LIST", help="Out of lbo and ddim.")] = "lbo,ddim",
    boost: Annotated[
        bool,
        typer.Option("--boost/--no-boost", help="Boost the image latents above the autoencoder's own (ILB)."),
    ] = True,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Folder for a sheet of pictures of each cut-out."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    quiet: options.Quiet = False,
    *,
    settings: Settings,
) -> int:
    """Compose cut-outs on a coloured ground, change its colour in every mode, and say what became of ground and object.

    An edit has moved the ground where the hue of its mean colour goes by the new colour's name.
    """
    cutouts, sweeps = part_sweeps(cutouts, sweep)
    chosen = parse_sweep(sweeps or ["mode=" + ",".join(MODES)], None)
    edits = [EditSettings(**{"to": "", **each}) for each in chosen]
    kinds = _among(masks, ("none", "auto", "drawn"), "masks")
    ways = _among(inversions, INVERSIONS, "inversions")
    known = load_captions(names) if names else {}
    for path in cutouts:
        if not path.is_file():
            raise UsageError(f"{path}: no such file")
    if out:
        make_folder(out)
    trials = _run(
        cutouts,
        known,
        (old, new),
        edits,
        kinds,
        set(chosen[0]),
        ways,
        replace(settings, boost=boost),
        out,
        quiet,
    )
    _tell(trials, (old, new), settings, as_json, quiet)
    return 0


def _run(
    cutouts: list[Path],
    names: dict[str, str],
    colours: tuple[str, str],
    edits: list[EditSettings],
    masks: list[str],
    swept: set[str],
    inversions: list[Any],
    settings: Settings,
    out: Path | None,
    quiet: bool,
) -> "list[Trial]":
    from invrecon.audit.edits.cutouts import check_colours, compose
    from invrecon.audit.edits.trials import EditPlan, run_trials

    check_colours(*colours)
    composites = [
        compose(path, names.get(path.stem, path.stem.replace("_", " ")), colours[0], int(settings.size))
        for path in cutouts
    ]
    plan = EditPlan(colours, edits, masks, swept)
    model, trials = load(settings, quiet), []
    for number, (path, composite) in enumerate(zip(cutouts, composites, strict=True), 1):
        own: list[Trial] = []
        for way in inversions:
            with progress_bar(f"{number}/{len(cutouts)} {composite.name}, {way}", quiet) as on_progress:
                own += run_trials(composite, plan, way, model, settings, on_progress)
        if out:
            _sheet(own, out / f"{path.stem}.png")
        trials += own
    return trials


def _sheet(trials: "list[Trial]", path: Path) -> None:
    from invrecon.image import save_png
    from invrecon.sheet import Panel, contact_sheet

    panels = [
        Panel(
            f"{each.label}, mask: {each.mask}, {each.inversion}",
            f"hue {each.hue:.0f}, object {each.object_psnr:.1f} dB",
            each.picture,
        )
        for each in trials
    ]
    save_png(contact_sheet([panels]), path)


def _tell(
    trials: "list[Trial]", colours: tuple[str, str], settings: Settings, as_json: bool, quiet: bool
) -> None:
    from invrecon.audit.edits.trials import tabulate

    rows = tabulate(trials)
    if as_json:
        each = [{name: value for name, value in vars(trial).items() if name != "picture"} for trial in trials]
        context = {
            "from": colours[0],
            "to": colours[1],
            "steps": settings.num_inference_steps,
            "size": settings.size,
        }
        typer.echo(json.dumps(strict(context | {"rows": rows, "trials": each}), allow_nan=False))
    elif not quiet:
        print_table(_TITLES, [_line(row) for row in rows])


def _line(row: dict[str, Any]) -> tuple[str, ...]:
    loss, count = row["worst_outside_loss_db"], row["cutouts"]
    return (
        row["edit"], row["mask"], row["inversion"], f"{row['moved']}/{count}", f"{row['median_hue']:.0f}", f"{row['kept']}/{count}",
        f"{row['moved_and_kept']}/{count}", f"{row['median_object_psnr']:.1f}", f"{row['worst_object_psnr']:.1f}",
        "-" if loss is None else f"{loss:.2f}", f"{row['mean_seconds']:.1f}",
    )  # fmt: skip


def _among(text: str, allowed: tuple[str, ...], name: str) -> list[str]:
    chosen = [one for one in text.split(",") if one]
    if not chosen or set(chosen) - set(allowed):
        raise UsageError(f"{name} are some of {', '.join(allowed)}, not {text!r}")
    return list(dict.fromkeys(chosen))
