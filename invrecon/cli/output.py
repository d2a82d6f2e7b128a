"""What a person or a program reads: progress bars on stderr, a table or JSON lines on stdout."""

import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from invrecon.errors import printable

if TYPE_CHECKING:
    from invrecon.pipeline import OnProgress, PhotoInversion

Row = dict[
    str, Any
]  # what became of one input, by the names of JSON_FIELDS; one that isn't there counts as None

FILES = ("output", "seed_file", "compare_file")
_FIGURES = {  # field -> (column of the table, format)
    "psnr": ("PSNR\ndB", ".2f"),
    "ssim": ("SSIM", ".4f"),
    "encoder_ceiling_db": ("encoder\nceiling", ".2f"),
    "decoder_ceiling_db": ("decoder\nceiling", ".2f"),
    "ddim_psnr": ("DDIM", ".2f"),
    "lbo_psnr": ("LBO\nalone", ".2f"),
    "ilb_psnr": ("ILB\nalone", ".2f"),
    "latent_fidelity_db": ("latent\ndB", ".1f"),
    "ddim_latent_fidelity_db": ("DDIM latent\ndB", ".1f"),
    "steps": ("steps", "d"),
    "converged_steps": ("converged", "d"),
    "evaluations": ("evaluations", "d"),
    "evaluations_per_step": ("evaluations\n/step", ".1f"),
    "plain_seed_norm": ("seed norm\nplain", ".3f"),
    "seed_norm": ("seed\nnorm", ".3f"),
    "plain_seed_autocorrelation": ("autocorrelation\nplain", ".3f"),
    "seed_autocorrelation": ("auto-\ncorrelation", ".3f"),
    "plain_seed_normality": ("normality\nplain", ".3f"),
    "seed_normality": ("normality", ".3f"),
    "seconds": ("seconds", ".1f"),
}
_COLUMNS = (
    "psnr", "ssim", "encoder_ceiling_db", "decoder_ceiling_db", "ddim_psnr", "lbo_psnr", "ilb_psnr", "latent_fidelity_db",
    "evaluations_per_step", "plain_seed_norm", "seed_norm", "seed_autocorrelation", "seed_normality", "seconds",
)  # fmt: skip
JSON_FIELDS = ("input", *FILES, *_FIGURES, "guidance_scale", "guidance_curve", "resumed", "error")


def inversion_figures(inversion: "PhotoInversion") -> Row:
    """The fields of a row that an inversion fills."""
    names = ("steps", "converged_steps", "evaluations", "evaluations_per_step", "seconds", "advice")
    search = inversion.guidance
    guidance = {"guidance_curve": search.table(), "verdict": search.verdict} if search else {}
    guidance["guidance_scale"] = inversion.seed.header["guidance_scale"]
    healths = {"": inversion.health, "plain_": inversion.plain_health}
    return (
        guidance
        | {name: getattr(inversion, name) for name in names}
        | {
            f"{prefix}seed_{name}": value
            for prefix, health in healths.items()
            for name, value in vars(health).items()
        }
    )


def json_line(row: Row, fields: Sequence[str] = JSON_FIELDS) -> str:
    """A row as strict JSON: NaN and infinity are null."""
    return json.dumps(strict({field: row.get(field) for field in fields}), allow_nan=False)


def strict(value: Any) -> Any:
    """A value as JSON can hold it: paths are strings, NaN and infinity null."""
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [strict(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_results(rows: Sequence[Row]) -> None:
    """A table of the figures of the inputs that are done, then the files written."""
    done = [row for row in rows if row["error"] is None]
    if not done:
        return
    columns = [name for name in _COLUMNS if any(row.get(name) is not None for row in done)]
    table = [(printable(row["input"]), *(_cell(name, row.get(name)) for name in columns)) for row in done]
    print_table(("file", *(_FIGURES[name][0] for name in columns)), table)
    for row in done:
        if row.get("guidance_curve"):
            _print_curve(row)
    for path in dict.fromkeys(
        value for row in done for name, value in row.items() if name != "input" and isinstance(value, Path)
    ):
        typer.echo(printable(path))


def _print_curve(row: Row) -> None:
    """What each guidance scale left of a photo."""
    typer.echo(f"\n{printable(row['input'])}: {row['verdict']}\n")
    table = [
        (
            f"{probe['guidance_scale']:g}",
            _cell("psnr", probe["psnr"]),
            _cell("latent_fidelity_db", probe["latent_fidelity_db"]),
            _cell("evaluations_per_step", probe["evaluations_per_step"]),
            f"{probe['converged_steps']} of {row['steps']}",
            _cell("seed_norm", probe["seed_norm"]),
            "yes" if probe["holds"] else "no",
        )
        for probe in row["guidance_curve"]
    ]
    names = ("psnr", "latent_fidelity_db", "evaluations_per_step", "converged_steps", "seed_norm")
    print_table(("guidance", *(_FIGURES[name][0] for name in names), "holds"), table)
    typer.echo()


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout; the first column is text, the others are figures."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column(titles[0], overflow="fold")
    for title in titles[1:]:
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))  # Text, not str: rich would take [red] in a file's name for markup
    Console(width=None if sys.stdout.isatty() else 200).print(table)  # a pipe has no width to keep to


def _cell(name: str, value: float | None) -> str:
    return "-" if value is None else format(value, _FIGURES[name][1])


@contextmanager
def progress_bar(title: str, quiet: bool) -> Iterator["OnProgress"]:
    """A callback that draws a bar on stderr while the block runs; nothing is drawn where that isn't a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    title = printable(title)
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,  # stdout is for results
        redirect_stderr=False,
    )
    with (
        nullcontext() if quiet or not sys.stderr.isatty() else bar
    ):  # rich 14 ends a disabled bar with an empty line
        task = bar.add_task(title, total=None)
        yield lambda stage, done, total: bar.update(
            task, description=f"{title}: {stage}", completed=done, total=total
        )
