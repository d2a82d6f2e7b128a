"""What `invrecon imagine` leaves behind: pictures with their seeds, sheets, animations, and what is told."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from invrecon.cli.batch import Save
from invrecon.cli.output import Output
from invrecon.cli.results import Row
from invrecon.cli.tables import Columns

if TYPE_CHECKING:
    from PIL.Image import Image

    from invrecon.pipeline import Imagined, OnProgress, Reference

FIELDS = (
    "kind", "input", "output", "seed_file", "weights", "seed_norm", "seed_autocorrelation", "seed_normality",
    "distance_before", "distance_after", "evaluations", "seconds", "error",
)  # fmt: skip
_COLUMNS: Columns = {
    "weights": ("weights", ""),
    "seed_norm": ("seed\nnorm", ".3f"),
    "evaluations": ("evaluations", "d"),
    "seconds": ("seconds", ".1f"),
}
_MORE_COLUMNS: Columns = {
    "seed_autocorrelation": ("auto-\ncorrelation", ".3f"),
    "seed_normality": ("normality", ".3f"),
    "distance_before": ("distance\nunrefined", ".3f"),
    "distance_after": ("distance\nrefined", ".3f"),
}
_REMARK = (
    "Norms are ‖z‖ / sqrt(d). References' seeds, of the norms shown, are projected on the Gaussian shell "
    "(norm 1) before use, but for the paths slerp and linear."
)


class Report:
    """What a person or a program reads of a run: JSON lines as things get done, or a table at the end."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self.rows: list[Row] = []

    def add(self, row: Row) -> None:
        """Notes what became of a reference or a result, and prints it where a program reads."""
        self.rows.append(row)
        self.output.record({field: row.get(field) for field in FIELDS})

    def finish(self) -> None:
        """Prints all figures and files where a person reads."""
        done = [row for row in self.rows if not row.get("error")]
        known = [row for row in done if row.get("seed_norm") is not None]
        names = [row.get("output") or row["input"] for row in known]
        told = [row | {"weights": _shares(row["weights"]) if row.get("weights") else None} for row in known]
        self.output.figures("file", names, told, [_COLUMNS, _MORE_COLUMNS])
        if any(row.get("weights") for row in known):
            self.output.line(_REMARK)
        for path in (row[field] for row in done for field in ("output", "seed_file") if field in row):
            self.output.line(path)


@dataclass(frozen=True)
class Gallery:
    """Pictures that belong together: NAME-01.png and so on with their seeds, NAME-sheet.png, NAME.gif.

    Args:
        base: folder and name.
        count: pictures.
        columns: of the sheet.
        gif: whether there is an animation.
    """

    base: Path
    count: int
    columns: int
    gif: bool = False

    def files(self) -> list[Path]:
        """All files: each picture and its seed in turn, the sheet, the animation."""
        digits = max(2, len(str(self.count)))
        numbered = [
            self._name(f"-{number:0{digits}}{ending}")
            for number in range(1, self.count + 1)
            for ending in (".png", ".seed.safetensors")
        ]
        return [*numbered, self._name("-sheet.png"), *([self._name(".gif")] if self.gif else [])]

    def _name(self, tail: str) -> Path:
        return self.base.with_name(f"{self.base.name}{tail}")

    def write(
        self,
        references: "dict[Path, Reference]",
        make: "Callable[[OnProgress], Iterable[Imagined]]",
        report: Report,
        save: Save,
    ) -> None:
        """Writes pictures and seeds as `make` yields them, then their sheet and the animation."""
        files = self.files()
        numbered, sheet = files[: 2 * self.count], files[2 * self.count]
        done = []
        with report.output.progress(self.base.name) as on_progress:
            for one, output, seed_file in zip(make(on_progress), numbered[::2], numbered[1::2], strict=True):
                sha256 = save.seed(one.seed, seed_file)
                save.png(one.picture, output, one.seed.header, "imagined", sha256)
                report.add({"kind": "picture", "output": output, "seed_file": seed_file} | figures_of(one))
                done.append(one)
        save.png(_sheet(references, done, self.columns), sheet, done[0].seed.header, "comparison")
        report.add({"kind": "sheet", "output": sheet})
        if self.gif:
            save.gif([one.picture for one in done], files[-1])
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
