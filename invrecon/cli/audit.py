"""`invrecon audit`: every method side by side, on your own photos."""

import json
import shlex
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invrecon.cli import options
from invrecon.cli.batch import load, make_folder
from invrecon.cli.output import print_table, progress_bar
from invrecon.errors import UsageError
from invrecon.settings import Settings, load_table

if TYPE_CHECKING:
    from invrecon.audit.methods.plan import Plan
    from invrecon.models import Model

EPILOG = """\b
Examples:
  invrecon audit photo.jpg --out audit --config configs/audit-quick.toml
  invrecon audit *.jpg --out audit --methods LBO,DDIM,AIDI-E --budgets 2,5 --settings empty:1,caption:3
  invrecon audit photo.jpg --out audit --caption photo="a cup of coffee"

\b
A killed audit goes on where it stopped when it is started again.

\b
Exit codes:
  0    the audit is whole
  1    a photo can't be used
  2    wrong usage: a bad option, preset, folder or model
  130  interrupted; what is done is kept"""

_REMARKS = [
    "Figures hold for this model, crop, prompt and grid; they are not those of any publication.",
    "mini is a small model for first contact: figures on Stable Diffusion checkpoints are yet to be measured.",
    "ILB alone is DDIM on boosted latents; LBO + ILB is LBO on boosted latents.",
    "LPIPS is given where torchvision and its AlexNet weights are on the machine.",
]


_OWN = (
    "prompt",
    "negative_prompt",
    "guidance_scale",
    "solver",
    "boost",
    "decoder_ceiling",
    "target_psnr",
    "max_seconds",
    "batch_size",
    "seed",
)


@options.takes_settings(without=(*_OWN, *options.GUIDANCE_SEARCH))
def audit(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO", help="Photos in any common format.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the results, made as needed.")
    ],
    methods: Annotated[
        str | None, typer.Option(metavar="LIST", help="Methods, with commas between.  [default: all]")
    ] = None,
    budgets: Annotated[
        str | None,
        typer.Option(
            metavar="LIST", help="Evaluations a step; 0 for the published settings.  [default: 0,1,2,3,5,10]"
        ),
    ] = None,
    setting_list: Annotated[
        str | None,
        typer.Option(
            "--settings",
            metavar="LIST",
            help="Prompt and guidance.  [default: empty:1,caption:1,caption:3,caption:7.5]",
        ),
    ] = None,
    captions: Annotated[
        list[str] | None,
        typer.Option("--caption", metavar="NAME=TEXT", help="What a photo shows; its name without ending."),
    ] = None,
    quiet: options.Quiet = False,
    *,
    config: Path | None,
    settings: Settings,
) -> int:
    """Run every method on each photo: same latents, prompt and grid, in one process.

    Writes results.jsonl, summary.json, summary.md and report.html, one page to read in a browser, to --out.
    """
    plan = _plan(load_table(config, "audit"), methods, budgets, setting_list, captions)
    for photo in photos:
        if not photo.is_file():
            raise UsageError(f"{photo}: no such file")
    make_folder(out)
    loaded = load(settings, quiet)
    _run(photos, loaded, plan, settings, out, quiet)
    return 0


def _run(
    photos: list[Path], model: "Model", plan: "Plan", settings: Settings, out: Path, quiet: bool
) -> None:
    from invrecon.audit.methods.markdown import to_markdown
    from invrecon.audit.methods.plan import describe
    from invrecon.audit.methods.report import write_report
    from invrecon.audit.methods.audit import run_audit
    from invrecon.audit.methods.tables import summarise
    from invrecon.writing import replacing

    with progress_bar("audit", quiet) as on_progress:
        journal = run_audit(photos, model, plan, settings, out, on_progress)
    context = {
        "command": shlex.join(["invrecon", *sys.argv[1:]]),
        "versions": {name: version(name) for name in ("invrecon", "torch", "diffusers")},
        "model": {"name": model.name, "fingerprint": model.fingerprint},
        "steps": settings.num_inference_steps,
        "size": settings.size,
        "remarks": _REMARKS,
    }
    rows = journal.asked
    summary = summarise(rows, {name: describe(name) for name in plan.methods}, context)
    for name, text in (
        ("summary.json", json.dumps(summary, indent=1, allow_nan=False)),
        ("summary.md", to_markdown(summary)),
    ):
        with replacing(out / name) as partial:
            partial.write_text(text, encoding="utf-8")
    page = write_report(summary, rows, out)
    if not quiet:
        _print(summary, page)


def _plan(
    table: dict[str, Any],
    methods: str | None,
    budgets: str | None,
    settings: str | None,
    captions: list[str] | None,
) -> "Plan":
    from invrecon.audit.methods.plan import Plan, parse_setting

    plan = Plan(
        decoder_ceiling=bool(table.get("decoder_ceiling", True)), captions=dict(table.get("captions", {}))
    )
    chosen = methods.split(",") if methods else table.get("methods")
    limits = budgets.split(",") if budgets else table.get("budgets")
    prompts = settings.split(",") if settings else table.get("settings")
    try:
        numbers = [int(limit) for limit in limits or ()]
        named = dict(pair.split("=", 1) for pair in captions or ())
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


def _print(summary: dict[str, Any], page: Path) -> None:
    for verdict in summary["verdict"]:
        typer.echo(
            f"{'holds' if verdict['holds'] else 'DOES NOT HOLD'}: {verdict['claim']}. {verdict['why']}"
        )
    for table in summary["tables"]:
        budget = f"{table['budget']} evaluations a step" if table["budget"] else "published settings"
        typer.echo(f"\n{table['setting']}, {budget}{', boosted latents' if table['boosted'] else ''}")
        fields = (
            "evaluations_per_step",
            "median_psnr",
            "worst_psnr",
            "median_fidelity_db",
            "worst_fidelity_db",
            "seconds",
        )
        rows = [
            (line["method"], line["track"], *(_number(line[field]) for field in fields))
            for line in table["rows"]
        ]
        print_table(
            (
                "method",
                "track",
                "evaluations\n/step",
                "PSNR\nmedian",
                "PSNR\nworst",
                "latent dB\nmedian",
                "latent dB\nworst",
                "seconds",
            ),
            rows,
        )
    typer.echo(f"\n{page}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
