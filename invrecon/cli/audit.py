"""`invrecon audit`: every method side by side, on your own photos."""

import json
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

_COLUMNS: Columns = {
    "track": ("track", ""),
    "evaluations_per_step": ("evaluations\n/step", ".2f"),
    "median_psnr": ("PSNR\nmedian", ".2f"),
    "worst_psnr": ("PSNR\nworst", ".2f"),
    "median_fidelity_db": ("latent dB\nmedian", ".2f"),
    "worst_fidelity_db": ("latent dB\nworst", ".2f"),
    "seconds": ("seconds", ".2f"),
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

    title = options.FIRST

    methods: Annotated[
        str | None,
        typer.Option(
            "--methods", metavar="LIST", help="Methods to run, with commas between.  [default: all]"
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
    plan = _plan(load_table(config, "audit"), wishes)
    for photo in photos:
        if not photo.is_file():
            raise UsageError(f"{photo}: no such file")
    make_folder(out)
    _run(photos, plan, settings, out, Output(quiet=quiet))
    return 0


def _run(photos: list[Path], plan: "Plan", settings: Settings, out: Path, output: Output) -> None:
    from invrecon.audit.methods.audit import run_audit
    from invrecon.audit.methods.markdown import to_markdown
    from invrecon.audit.methods.plan import describe
    from invrecon.audit.methods.report import write_report
    from invrecon.audit.methods.tables import summarise
    from invrecon.writing import replacing

    model = load(settings, output)
    with output.progress("audit") as on_progress:
        rows = run_audit(photos, model, plan, settings, out, on_progress).asked
    summary = summarise(rows, {name: describe(name) for name in plan.methods}, _context(model, settings))
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


def _context(model: "Model", settings: Settings) -> dict[str, Any]:
    return {
        "command": shlex.join(["invrecon", *sys.argv[1:]]),
        "versions": {name: version(name) for name in ("invrecon", "torch", "diffusers")},
        "model": {"name": model.name, "fingerprint": model.fingerprint},
        "steps": settings.num_inference_steps,
        "size": settings.size,
        "remarks": _REMARKS,
    }


def _plan(table: dict[str, Any], wishes: _Wishes) -> "Plan":
    from invrecon.audit.methods.plan import Plan, parse_setting

    plan = Plan(
        decoder_ceiling=bool(table.get("decoder_ceiling", True)), captions=dict(table.get("captions", {}))
    )
    chosen = wishes.methods.split(",") if wishes.methods else table.get("methods")
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
        methods=tuple(chosen or plan.methods),
        budgets=tuple(number or None for number in numbers) or plan.budgets,
        settings=tuple(map(parse_setting, prompts or ())) or plan.settings,
        captions=plan.captions | named,
    )


def _show(output: Output, summary: dict[str, Any]) -> None:
    for verdict in summary["verdict"]:
        held = "holds" if verdict["holds"] else "DOES NOT HOLD"
        output.line(f"{held}: {verdict['claim']}. {verdict['why']}")
    for table in summary["tables"]:
        budget = f"{table['budget']} evaluations a step" if table["budget"] else "published settings"
        output.line()
        output.line(f"{table['setting']}, {budget}{', boosted latents' if table['boosted'] else ''}")
        output.figures("method", [line["method"] for line in table["rows"]], table["rows"], [_COLUMNS])
