"""What a run tells: a table for people or JSON lines for programs on stdout, progress bars on stderr."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invrecon.cli import options
from invrecon.cli.tables import Columns, figures, render
from invrecon.errors import InvreconError, printable
from invrecon.jsonable import jsonable
from invrecon.muted import stdout

if TYPE_CHECKING:
    from invrecon.cli.bars import Overall
    from invrecon.pipeline import OnProgress


@dataclass(frozen=True)
class Output:
    """Whom the results are for: people, programs, or nobody. Warnings and errors are told in any case."""

    title = options.OUTPUT

    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON for programs, one object a line, and nothing else.")
    ] = False
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="No progress bars and no table; warnings and errors stay."),
    ] = False
    verbose: bool = False

    @property
    def for_people(self) -> bool:
        """Whether tables and texts are shown."""
        return not (self.as_json or self.quiet)

    def record(self, values: dict[str, Any]) -> None:
        """Prints a line of JSON, NaN and infinity as null, where a program reads."""
        if self.as_json:
            try:
                text = json.dumps(values, allow_nan=False)
            except (TypeError, ValueError):  # few rows hold what JSON lacks, and there may be very many
                text = json.dumps(jsonable(values), allow_nan=False)
            put(text)

    def line(self, text: object = "") -> None:
        """Prints a line of text where a person reads."""
        if self.for_people:
            put(printable(text))

    def table(self, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Prints a table where a person reads: its first column is text, the others are figures."""
        if self.for_people:
            put(render(titles, rows))

    def figures(
        self,
        title: str,
        names: Sequence[object],
        rows: Sequence[Mapping[str, Any]],
        columns: Sequence[Columns],
    ) -> None:
        """Prints a table of rows with names, by the first of some sets of columns; where verbose, by each."""
        for chosen in columns if self.verbose else columns[:1]:
            titles, cells = figures(chosen, rows)
            if titles:
                lines = [(printable(name), *line) for name, line in zip(names, cells, strict=True)]
                self.table((title, *titles), lines)

    @contextmanager
    def progress(self, title: str, overall: "Overall | None" = None) -> Iterator["OnProgress"]:
        """A callback that draws a bar on stderr while the block runs, above that of all inputs where there
        is one; none where stderr isn't a terminal.
        """
        from invrecon.cli.bars import bars

        progress, on_progress = bars(printable(title), overall)
        drawn = not self.quiet and sys.stderr.isatty()
        with progress if drawn else nullcontext():  # rich 14 ends a disabled bar with an empty line
            yield on_progress


@dataclass(frozen=True)
class Tables(Output):
    """Output whose tables have more columns than fit a narrow terminal."""

    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print all figures, in a second table.")
    ] = False


def put(text: str) -> None:
    """Prints text on stdout.

    Raises:
        BrokenPipeError: its reader has left.
        InvreconError: it can't be written, as on a full disk.
    """
    try:
        typer.echo(text, file=stdout())
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unprintable(error) from error


def unprintable(error: OSError) -> InvreconError:
    """The error of a stdout that takes no more. Nothing else is sent there, not even as Python ends."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    return InvreconError(
        f"results can't be printed ({error.strerror}), and the rest is left undone: "
        "free some space, or choose another place for the output"
    )
