"""`invrecon audit-edit`: how well edits work, on cut-outs whose background is to change its colour."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invrecon.cli.batch import load
from invrecon.cli.boundary import say
from invrecon.cli.command import command
from invrecon.cli.inputs import make_folder
from invrecon.cli.output import Output
from invrecon.cli.pie_bench import Benchmark, run_pie_bench
from invrecon.cli.sweep import parse_sweep, part_sweeps
from invrecon.cli.tables import Columns
from invrecon.errors import ModelError, UsageError
from invrecon.settings import (
    INVERSIONS,
    MODES,
    AutoGuidance,
    EditSettings,
    Settings,
    load_captions,
    settings_of,
)

if TYPE_CHECKING:
    from invrecon.audit.edits.trials import Trial

_COLUMNS: Columns = {
    "mask": ("mask", ""),
    "inversion": ("inversion", ""),
    "moved": ("moved", ""),
    "median_hue": ("hue\nmedian", ".0f"),
    "without_halo": ("no halo", ""),
    "kept": ("object\n>= 22 dB", ""),
    "moved_and_kept": ("both", ""),
    "median_object_psnr": ("object dB\nmedian", ".1f"),
    "worst_object_psnr": ("object dB\nworst", ".1f"),
    "worst_outside_loss_db": ("outside mask\nloss dB", ".2f"),
    "mean_seconds": ("seconds", ".1f"),
}
_EVERY_MODE = "mode=" + ",".join(MODES)


@dataclass(frozen=True)
class _Wishes:
    """What is tried."""

    old: Annotated[
        str, typer.Option("--from", metavar="COLOUR", help="Colour of the background, to begin with.")
    ] = "blue"
    new: Annotated[str, typer.Option("--to", metavar="COLOUR", help="Colour to turn it into.")] = "green"
    names: Annotated[
        Path | None,
        typer.Option(
            "--names", metavar="FILE", help="TOML or JSON: file name without ending = what it shows."
        ),
    ] = None
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            metavar="NAME=VALUE,...",
            help="Edits to try: all combinations of these values of options. "
            "[default: all modes that the model can do]",
        ),
    ] = None
    masks: Annotated[
        str | None,
        typer.Option(
            "--masks",
            metavar="LIST",
            help="Masks to try, out of none, auto and drawn (the background's, or PIE-Bench's own). "
            "[default: all; none for PIE-Bench]",
        ),
    ] = None
    inversions: Annotated[
        str, typer.Option("--inversions", metavar="LIST", help="Inversions to try, out of lbo and ddim.")
    ] = "lbo,ddim"


@dataclass(frozen=True)
class _Plan:
    """All edits of each cut-out."""

    colours: tuple[str, str]
    edits: list[EditSettings]
    swept: set[str]
    masks: list[str]
    inversions: list[Any]
    names: dict[str, str]
    every_mode: bool


@command(
    examples=[
        "invrecon audit-edit cutouts/*.png",
        "invrecon audit-edit cutouts/*.png --from blue --to red --size 128 --steps 20 --out pictures",
        "invrecon audit-edit cutouts/*.png --sweep mode=p2p guidance=3,5 --masks auto --json",
        "invrecon audit-edit --pie-bench PIE-Bench_v1 --model runwayml/sd14 --size 512 --out pie-bench",
    ],
    codes={
        0: "the table is whole",
        1: "a cut-out can't be used, or a photo of PIE-Bench (the others are still done)",
        2: "wrong usage: a bad option, colour, folder or model",
        130: "interrupted",
    },
    without=[
        "prompt", "negative_prompt", "guidance_scale", "fit", "decoder_ceiling", "batch_size",
        *settings_of(AutoGuidance),
    ],
)  # fmt: skip
def audit_edit(
    wishes: _Wishes,
    benchmark: Benchmark,
    output: Output,
    cutouts: Annotated[
        list[Path] | None,
        typer.Argument(metavar="CUTOUT", help="Pictures with transparency, named after what they show."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Folder for a sheet of each cut-out, or for PIE-Bench's results.",
        ),
    ] = None,
    *,
    settings: Settings,
) -> int:
    """Compose cut-outs on a coloured ground, change its colour, and say what became of ground and object.

    An edit has moved the ground where the hue of its mean colour goes by the new colour's name. It leaves
    a halo where a tenth of the pixels next to the object, up to 8 away, go by the old one's. With --pie-bench
    the edits are those of that benchmark, judged as its own evaluation does it; a killed run goes on where it
    stopped.
    """
    cutouts, sweeps = part_sweeps(cutouts or [], wishes.sweep)
    if benchmark.folder and cutouts:
        raise UsageError("--pie-bench brings its own photos: leave the cut-outs out")
    if not (benchmark.folder or cutouts):
        raise UsageError("name cut-outs, or a benchmark with --pie-bench")
    plan = _plan(wishes, sweeps, wishes.masks or ("none" if benchmark.folder else "none,auto,drawn"))
    if benchmark.folder:
        from invrecon.audit.edits.trials import EditPlan

        edits = EditPlan(plan.colours, plan.edits, plan.masks, plan.swept)
        return run_pie_bench(benchmark, edits, plan.inversions, settings, out, output)
    for path in cutouts:
        if not path.is_file():
            raise UsageError(f"{path}: no such file")
    if out:
        make_folder(out)
    _tell(_run(cutouts, plan, settings, out, output), plan.colours, settings, output)
    return 0


def _plan(wishes: _Wishes, sweeps: list[str], masks: str) -> _Plan:
    chosen = parse_sweep(sweeps or [_EVERY_MODE], None)
    return _Plan(
        (wishes.old, wishes.new),
        [EditSettings(**{"to": "", **each}) for each in chosen],
        set(chosen[0]),
        _among(masks, ("none", "auto", "drawn"), "masks"),
        _among(wishes.inversions, INVERSIONS, "inversions"),
        load_captions(wishes.names) if wishes.names else {},
        not sweeps,
    )


def _run(
    cutouts: list[Path], plan: _Plan, settings: Settings, out: Path | None, output: Output
) -> "list[Trial]":
    from invrecon.audit.edits.cutouts import check_colours, compose
    from invrecon.audit.edits.trials import EditPlan, run_trials

    check_colours(*plan.colours)
    composites = [
        compose(
            path, plan.names.get(path.stem, path.stem.replace("_", " ")), plan.colours[0], int(settings.size)
        )
        for path in cutouts
    ]
    trial_plan = EditPlan(plan.colours, plan.edits, plan.masks, plan.swept)
    model, trials = load(settings, output), []
    if plan.every_mode:
        trial_plan = replace(trial_plan, edits=_possible(plan.edits, model, settings.sampler))
    for number, (path, composite) in enumerate(zip(cutouts, composites, strict=True), 1):
        of_one: list[Trial] = []
        for way in plan.inversions:
            with output.progress(f"{number}/{len(cutouts)} {composite.name}, {way}") as on_progress:
                of_one += run_trials(composite, trial_plan, way, model, settings, on_progress)
        if out:
            _sheet(of_one, out / f"{path.stem}.png")
        trials += of_one
    return trials


def _possible(edits: list[EditSettings], model: Any, sampler: str) -> list[EditSettings]:
    """Those that a model can do; why it can't do the others is told."""
    from invrecon.pipeline.modes import check_edit

    possible = []
    for each in edits:
        try:
            check_edit(each, model, sampler)
            possible.append(each)
        except (UsageError, ModelError) as error:
            say(f"left out: {error}")
    return possible


def _sheet(trials: "list[Trial]", path: Path) -> None:
    from invrecon.image import save_png
    from invrecon.sheet import Panel, contact_sheet

    panels = [
        Panel(
            f"{each.label}, mask: {each.mask}, {each.inversion}",
            f"hue {each.hue:.0f}, halo {each.halo:.0%}, object {each.object_psnr:.1f} dB",
            each.picture,
        )
        for each in trials
    ]
    save_png(contact_sheet([panels]), path)


def _tell(trials: "list[Trial]", colours: tuple[str, str], settings: Settings, output: Output) -> None:
    from invrecon.audit.edits.trials import tabulate

    rows = tabulate(trials)
    each = [{name: value for name, value in vars(trial).items() if name != "picture"} for trial in trials]
    grid = {"steps": settings.num_inference_steps, "size": settings.size}
    output.record({"from": colours[0], "to": colours[1]} | grid | {"rows": rows, "trials": each})
    of_all = ("moved", "without_halo", "kept", "moved_and_kept")
    told = [row | {name: f"{row[name]}/{row['cutouts']}" for name in of_all} for row in rows]
    output.figures("edit", [row["edit"] for row in rows], told, [_COLUMNS])


def _among(text: str, allowed: tuple[str, ...], name: str) -> list[str]:
    chosen = [one for one in text.split(",") if one]
    if not chosen or set(chosen) - set(allowed):
        raise UsageError(f"{name} are some of {', '.join(allowed)}, not {text!r}")
    return list(dict.fromkeys(chosen))
