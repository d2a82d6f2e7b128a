"""Tables of text: columns, cells, and names that are shortened to fit."""

import sys
from collections.abc import Mapping, Sequence
from io import StringIO
from shutil import get_terminal_size
from typing import Any

from invrecon.errors import printable

Columns = Mapping[str, tuple[str, str]]  # field of a row -> (title, format)

_WIDTH = 100  # characters, where stdout is no terminal
_NARROWEST = 16  # characters that a name keeps
_GAP = 2


def render(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as text; its first column is text, shortened in the middle where the table is too wide."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    figures = [
        max(map(cell_len, (*title.split("\n"), *(row[number] for row in rows))))
        for number, title in enumerate(titles[1:], 1)
    ]
    width = get_terminal_size((_WIDTH, 1)).columns if sys.stdout.isatty() else _WIDTH
    room = max(_NARROWEST, width - sum(figures) - _GAP * len(titles))
    table = Table(box=None, padding=(0, _GAP, 0, 0))
    table.add_column(titles[0], no_wrap=True)
    for title in titles[1:]:
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        # Text, not str: rich would take [red] in a file's name for markup
        table.add_row(Text(shorten(row[0], room)), *map(Text, row[1:]))
    page = StringIO()
    Console(file=page, width=10_000, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines())


def shorten(name: str, room: int) -> str:
    """`name` in at most `room` cells, an ellipsis in the place of its middle."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(name) <= room:
        return name
    head = room // 2
    tail = name[-1:]
    while cell_len(tail) < room - head - 1 and cell_len(name[-len(tail) - 1 :]) <= room - head - 1:
        tail = name[-len(tail) - 1 :]
    return f"{set_cell_size(name, head).rstrip()}…{tail}"


def figures(columns: Columns, rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """(titles, cells) of the columns in which some row has a value."""
    known = [name for name in columns if any(row.get(name) is not None for row in rows)]
    cells = [[cell(row.get(name), columns[name][1]) for name in known] for row in rows]
    return [columns[name][0] for name in known], cells


def cell(value: Any, form: str) -> str:
    """A value in a format; a dash where there is none."""
    return "-" if value is None or value != value else printable(format(value, form))
