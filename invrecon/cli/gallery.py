"""What `invrecon imagine` leaves behind: pictures with their seeds, sheets, animations, and the lines that tell of them."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from invrecon.cli.output import Row, print_table, progress_bar, strict
from invrecon.errors import printable

if TYPE_CHECKING:
    from PIL.Image import Image

    from invrecon.pipeline import Imagined, OnProgress, Reference

FIELDS = (
    "kind", "input", "output", "seed_file", "weights", "seed_norm", "seed_autocorrelation", "seed_normality",
    "distance_before", "distance_after", "evaluations", "seconds", "error",
)  # fmt: skip
_COLUMNS = (
    ("weights", "weights", ""),
    ("seed_norm", "seed\nnorm", ".3f"),
    ("seed_autocorrelation", "auto-\ncorrelation", ".3f"),
    ("seed_normality", "normality", ".3f"),
    ("distance_before", "distance\nunrefined", ".3f"),
    ("distance_after", "distance\nrefined", ".3f"),
    ("evaluations", "evaluations", "d"),
    ("seconds", "seconds", ".1f"),
)
_REMARK = (
    "Norms are ‖z‖ / sqrt(d). References' seeds, of the norms shown, are projected on the Gaussian shell (norm 1) before use"
    ", but for the paths slerp and linear."
)
_ENDINGS = (".png", ".seed.safetensors")


class Report:
    """What a person or a program reads of a run: JSON lines as things get done, or a table at the end."""

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self.as_json, self.quiet = as_json, quiet
        self.rows: list[Row] = []

    def add(self, row: Row) -> None:
        self.rows.append(row)
        if self.as_json:
            typer.echo(json.dumps(strict({field: row.get(field) for field in FIELDS}), allow_nan=False))

    def finish(self) -> None:
        done = [row for row in self.rows if not row.get("error")]
        if self.as_json or self.quiet or not done:
            return
        known = [row for row in done if row.get("seed_norm") is not None]
        columns = [column for column in _COLUMNS if any(row.get(column[0]) is not None for row in known)]
        table = [
            (
                printable(row.get("output") or row["input"]),
                *(_cell(row.get(key), form) for key, _, form in columns),
            )
            for row in known
        ]
        print_table(("file", *(title for _, title, _ in columns)), table)
        if any(row.get("weights") for row in known):
            typer.echo(_REMARK)
        for path in (row[field] for row in done for field in ("output", "seed_file") if field in row):
            typer.echo(printable(path))


def name_files(base: Path, count: int, gif: bool = False) -> list[Path]:
    """All that `write` makes of so many pictures: each picture and its seed in turn, the sheet, the animation."""
    digits = max(2, len(str(count)))
    numbered = [
        base.with_name(f"{base.name}-{number:0{digits}}{ending}")
        for number in range(1, count + 1)
        for ending in _ENDINGS
    ]
    return [
        *numbered,
        base.with_name(f"{base.name}-sheet.png"),
        *([base.with_name(f"{base.name}.gif")] if gif else []),
    ]


def write(
    base: Path,
    count: int,
    references: "dict[Path, Reference]",
    make: "Callable[[OnProgress], Iterable[Imagined]]",
    report: Report,
    *,
    columns: int,
    gif: bool = False,
) -> None:
    """Writes pictures and seeds as `make` yields them, then their sheet of so many columns, and the animation."""
    from invrecon.image import save_gif, save_png
    from invrecon.seedfile import save_seed

    files = name_files(base, count, gif)
    numbered, sheet = files[: 2 * count], files[2 * count]
    done = []
    with progress_bar(base.name, report.quiet) as on_progress:
        for one, output, seed_file in zip(make(on_progress), numbered[::2], numbered[1::2], strict=True):
            save_seed(one.seed, seed_file)
            save_png(one.picture, output)
            report.add({"kind": "picture", "output": output, "seed_file": seed_file} | figures_of(one))
            done.append(one)
    save_png(_sheet(references, done, columns), sheet)
    report.add({"kind": "sheet", "output": sheet})
    if gif:
        save_gif([one.picture for one in done], files[-1])
        report.add({"kind": "animation", "output": files[-1]})


def figures_of(one: "Reference | Imagined") -> Row:
    """The fields of a row that a reference or a new picture fills."""
    row = {f"seed_{name}": value for name, value in vars(one.health).items()}
    row |= {"evaluations": one.evaluations, "seconds": one.seconds, "weights": getattr(one, "weights", None)}
    if refinement := getattr(one, "refinement", None):
        row |= {"distance_before": refinement.before, "distance_after": refinement.after}
    return row


def _sheet(references: "dict[Path, Reference]", pictures: "Sequence[Imagined]", columns: int) -> "Image":
    from invrecon.sheet import Panel, contact_sheet

    first = [
        Panel(source.name, f"reference, seed norm {one.health.norm:.2f}", one.picture)
        for source, one in references.items()
    ]
    new = [
        Panel(str(n), f"{_shares(one.weights)}, norm {one.health.norm:.2f}", one.picture)
        for n, one in enumerate(pictures, 1)
    ]
    return contact_sheet([first, new], columns)


def _shares(weights: Sequence[float]) -> str:
    return " : ".join([*(f"{weight:.2f}" for weight in weights[:4]), *(["..."] if len(weights) > 4 else [])])


def _cell(value: float | list[float] | None, form: str) -> str:
    if isinstance(value, list):
        return _shares(value)
    return "-" if value is None else format(value, form)
