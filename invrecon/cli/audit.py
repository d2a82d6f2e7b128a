"""`invrecon audit`: every method side by side, on your own photos."""

import json
import os
import shlex
import sys
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invrecon.cli import options
from invrecon.cli.batch import load
from invrecon.cli.command import command
from invrecon.cli.inputs import make_folder
from invrecon.cli.output import Output
from invrecon.cli.tables import Columns
from invrecon.errors import UsageError
from invrecon.settings import AutoGuidance, Settings, load_table, settings_of

if TYPE_CHECKING:
    from invrecon.audit.methods.plan import Plan
    from invrecon.models import Model

Row = dict[str, Any]

_COLUMNS: Columns = {
    "track": ("track", ""),
    "evaluations_per_step": ("evaluations\n/step", ".2f"),
    "median_psnr": ("PSNR\nmedian", ".2f"),
    "worst_psnr": ("PSNR\nworst", ".2f"),
    "median_fidelity_db": ("latent dB\nmedian", ".2f"),
    "worst_fidelity_db": ("latent dB\nworst", ".2f"),
    "seconds": ("seconds", ".2f"),
}
_AUTOENCODERS: Columns = {
    "encoder_ceiling_db": ("D(E(x))", ".2f"),
    "boosted_db": ("boosted", ".2f"),
    "decoder_ceiling_db": ("decoder's\nceiling", ".2f"),
    "percent": ("of the\ngap, %", ".0f"),
    "worst_percent": ("worst\nphoto, %", ".0f"),
    "decoder_steps": ("passes", ".0f"),
    "proximal_cost_db": ("proximal\ncost, dB", ".2f"),
    "percent_moved": ("moved, %", ".1f"),
}
_REMARKS = [
    "Figures hold for this model, crop, prompt and grid; they are not those of any publication.",
    "mini is a small model for first contact: Stable Diffusion checkpoints are yet to be measured.",
    "ILB alone is DDIM on boosted latents; LBO + ILB is LBO on boosted latents.",
    "LPIPS is given where torchvision and its AlexNet weights are on the machine.",
]

_SET_BY_THE_PLAN = (
    "prompt", "negative_prompt", "guidance_scale", "solver", "boost", "decoder_ceiling", "target_psnr",
    "max_seconds", "batch_size", "seed", *settings_of(AutoGuidance),
)  # fmt: skip


@dataclass(frozen=True)
class _Wishes:
    """What is compared; None for what the preset or the default says."""

    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            metavar="LIST",
            help="Methods to run, with commas between; or none.  [default: all]",
        ),
    ] = None
    budgets: Annotated[
        str | None,
        typer.Option(
            "--budgets",
            metavar="LIST",
            help="Evaluations a step to allow; 0 for the published settings.  [default: 0,1,2,3,5,10]",
        ),
    ] = None
    prompts: Annotated[
        str | None,
        typer.Option(
            "--settings",
            metavar="LIST",
            help="Prompts and guidance to run with.  [default: empty:1,caption:1,caption:3,caption:7.5]",
        ),
    ] = None
    autoencoders: Annotated[
        list[Path] | None,
        typer.Option(
            "--autoencoder",
            metavar="DIR",
            help="Measure boosting in this autoencoder's latent space, too; again for each.",
        ),
    ] = None
    captions_file: Annotated[
        Path | None,
        typer.Option(
            "--captions",
            metavar="FILE",
            help="What all photos show: COCO's JSON, metadata.jsonl, or names and texts in JSON or TOML.",
        ),
    ] = None
    captions: Annotated[
        list[str] | None,
        typer.Option(
            "--caption",
            metavar="NAME=TEXT",
            help="What a photo shows, by its name without ending. Give it for settings with a caption.",
        ),
    ] = None


@command(
    examples=[
        "invrecon audit photo.jpg --out audit --config configs/audit-quick.toml",
        "invrecon audit *.jpg --out audit --methods LBO,DDIM --budgets 2,5 --settings empty:1,caption:3",
        'invrecon audit photo.jpg --out audit --caption photo="a cup of coffee"',
        "invrecon audit val2017/*.jpg --out audit --captions captions_val2017.json --settings caption:1",
        "invrecon audit *.jpg --out audit --methods none --autoencoder taesd --autoencoder taesdxl",
    ],
    codes={
        0: "the audit is whole",
        1: "a photo can't be used",
        2: "wrong usage: a bad option, preset, folder or model",
        130: "interrupted; what is done is kept, and the same command goes on from there",
    },
    without=_SET_BY_THE_PLAN,
)
def audit(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO", help="Photos in any common format.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the results, made as needed.")
    ],
    wishes: _Wishes,
    quiet: options.Quiet = False,
    *,
    config: Path | None,
    settings: Settings,
) -> int:
    """Run every method on each photo: same latents, prompt and grid, in one process.

    Writes results.jsonl, summary.json, summary.md and report.html, one page to read in a browser, to --out.
    A killed audit goes on where it stopped when it is started again.
    """
    for photo in photos:
        if not photo.is_file():
            raise UsageError(f"{photo}: no such file")
    plan = _plan(load_table(config, "audit"), wishes, photos)
    make_folder(out)
    output = Output(quiet=quiet)
    folders = wishes.autoencoders or []
    if not (plan.methods or folders):
        raise UsageError("there is nothing to measure: name --methods, or an --autoencoder")
    rows, model = _measure(photos, plan, folders, settings, out, output)
    _write(rows, model, plan, settings, out, output)
    return 0


def _measure(
    photos: list[Path], plan: "Plan", folders: list[Path], settings: Settings, out: Path, output: Output
) -> "tuple[list[Row], Model | None]":
    from invrecon.audit.autoencoders import run_autoencoders
    from invrecon.audit.methods.audit import run_audit
    from invrecon.models.latent_space import load_autoencoder

    spaces = [load_autoencoder(folder, settings.device) for folder in folders]
    model, rows = load(settings, output) if plan.methods else None, []
    if model:
        with output.progress("audit") as on_progress:
            rows += run_audit(photos, model, plan, settings, out, on_progress).asked
    if spaces:
        with output.progress("autoencoders") as on_progress:
            rows += run_autoencoders(photos, spaces, settings, out, on_progress)
    return rows, model


def _write(
    rows: "list[Row]", model: "Model | None", plan: "Plan", settings: Settings, out: Path, output: Output
) -> None:
    from invrecon.audit.autoencoders import tabulate
    from invrecon.audit.methods.markdown import to_markdown
    from invrecon.audit.methods.plan import describe
    from invrecon.audit.methods.report import write_report
    from invrecon.audit.methods.tables import summarise
    from invrecon.writing import replacing

    summary = summarise(rows, {name: describe(name) for name in plan.methods}, _context(model, settings))
    summary["autoencoders"] = tabulate([row for row in rows if row["kind"] == "autoencoder"])
    texts = {
        "summary.json": json.dumps(summary, indent=1, allow_nan=False),
        "summary.md": to_markdown(summary),
    }
    for name, text in texts.items():
        with replacing(out / name) as partial:
            partial.write_text(text, encoding="utf-8")
    page = write_report(summary, rows, out)
    _show(output, summary)
    output.line()
    output.line(page)


def _context(model: "Model | None", settings: Settings) -> dict[str, Any]:
    return {
        "command": shlex.join(["invrecon", *sys.argv[1:]]),
        "versions": {name: version(name) for name in ("invrecon", "torch", "diffusers")},
        "model": {"name": model.name, "fingerprint": model.fingerprint} if model else None,
        "steps": settings.num_inference_steps,
        "size": settings.size,
        "remarks": _REMARKS,
    }


def _plan(table: dict[str, Any], wishes: _Wishes, photos: list[Path]) -> "Plan":
    from invrecon.audit.methods.plan import Plan, parse_setting

    plan = Plan(
        decoder_ceiling=bool(table.get("decoder_ceiling", True)), captions=dict(table.get("captions", {}))
    )
    chosen = wishes.methods.split(",") if wishes.methods else table.get("methods")
    if wishes.methods == "none":
        chosen = ()
    limits = wishes.budgets.split(",") if wishes.budgets else table.get("budgets")
    prompts = wishes.prompts.split(",") if wishes.prompts else table.get("settings")
    try:
        numbers = [int(limit) for limit in limits or ()]
        named = dict(pair.split("=", 1) for pair in wishes.captions or ())
    except ValueError as error:
        raise UsageError(
            "budgets are whole numbers with commas between, and a caption reads NAME=TEXT"
        ) from error
    if any(number < 0 for number in numbers):
        raise UsageError("a budget can't be negative")
    return replace(
        plan,
        methods=plan.methods if chosen is None else tuple(chosen),
        budgets=tuple(number or None for number in numbers) or plan.budgets,
        settings=tuple(map(parse_setting, prompts or ())) or plan.settings,
        captions=plan.captions | _from_file(wishes.captions_file, photos, named) | named,
    )


def _from_file(file: Path | None, photos: list[Path], named: dict[str, str]) -> dict[str, str]:
    """The captions of photos that `named` has none of, by path, from a file that calls them by their path
    below its own folder, by name or by stem. Raises UsageError where it has none of one.
    """
    from invrecon.cluster.captions import read_captions

    if not file:
        return {}
    captions, table = {}, read_captions(file)
    for photo in photos:
        below = Path(os.path.relpath(photo, file.parent)).as_posix()
        known = next((name for name in (below, photo.name, photo.stem) if name in table), None)
        if known is None and photo.stem not in named:
            raise UsageError(f"{file}: has no caption for {photo.name}; add one, or leave the photo out")
        if known is not None and photo.stem not in named:
            captions[str(photo)] = table[known]
    return captions


def _show(output: Output, summary: "Row") -> None:
    if lines := summary["autoencoders"]:
        output.figures("autoencoder", [line["autoencoder"] for line in lines], lines, [_AUTOENCODERS])
    for verdict in summary["verdict"]:
        held = "holds" if verdict["holds"] else "DOES NOT HOLD"
        output.line(f"{held}: {verdict['claim']}. {verdict['why']}")
    for table in summary["tables"]:
        budget = f"{table['budget']} evaluations a step" if table["budget"] else "published settings"
        output.line()
        output.line(f"{table['setting']}, {budget}{', boosted latents' if table['boosted'] else ''}")
        output.figures("method", [line["method"] for line in table["rows"]], table["rows"], [_COLUMNS])
