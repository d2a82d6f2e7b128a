"""The report's building blocks: numbers, names, lists and tables as HTML."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from invrecon.audit.methods.plan import OURS

Row = Mapping[str, Any]

TRACKS = {
    "A": "Track A: the seed alone, through the unmodified sampler",
    "B": "Track B: the seed with stored extras, or a sampler of its own",
}
NONE_PUBLISHED = "<p>No method was run at its published settings.</p>"


def number(value: float | None, digits: int) -> str:
    """A figure with so many digits after the point; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def method_cell(name: str, notes: Mapping[str, str]) -> str:
    """A method's name as HTML, with a mark that leads to its note."""
    note = notes.get(name)
    dagger = (
        f'<a class="dagger" href="#notes" title="{escape(note)}" aria-label="see the note">†</a>'
        if note
        else ""
    )
    return escape(name) + dagger


def items(items: Iterable[str]) -> str:
    """A list, of HTML texts."""
    return "<ul>" + ("".join(f"<li>{item}</li>" for item in items) or "<li>None.</li>") + "</ul>"


def table_of(caption: str, head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table that scrolls in its own box; all texts are HTML, the first cell of each row is its heading."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    lines = ""
    for first, *cells in body:
        ours = ' class="ours"' if first.partition("<")[0] == OURS else ""
        lines += (
            f'<tr{ours}><th scope="row">{first}</th>'
            + "".join(f"<td>{cell}</td>" for cell in cells)
            + "</tr>\n"
        )
    table = f'<table aria-label="{caption}"><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>'
    box = f'<div class="scroll" tabindex="0">{table}</div>'
    return f'<figure class="table"><figcaption>{caption}</figcaption>{box}</figure>\n'


def by_track(rows: Iterable[Row]) -> Iterator[tuple[str, list[Row]]]:
    """The rows of each track apart, since tracks are never ranked together."""
    every = list(rows)
    for track in TRACKS:
        if chosen := [row for row in every if row["track"] == track]:
            yield track, chosen
