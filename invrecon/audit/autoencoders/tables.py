"""From rows to one table: medians over the photos, and the photo that boosting serves worst."""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

Row = dict[str, Any]

COLUMNS: dict[str, tuple[str, int]] = {
    "encoder_ceiling_db": ("D(E(x)), dB", 2),
    "boosted_db": ("boosted, dB", 2),
    "decoder_ceiling_db": ("decoder's ceiling, dB", 2),
    "percent": ("of the gap, %", 0),
    "worst_percent": ("worst photo, %", 0),
    "decoder_steps": ("passes", 0),
    "proximal_cost_db": ("cost of the proximal term, dB", 2),
    "percent_moved": ("distance moved, %", 1),
    "ceiling_percent_moved": ("at the ceiling, %", 1),
}
"""Titles and digits of a table's columns."""


def tabulate(rows: Sequence[Row]) -> list[Row]:
    """A line for each autoencoder; the gap is that between D(E(x)) and the decoder's ceiling."""
    names = dict.fromkeys(row["autoencoder"] for row in rows)
    return [_line(name, [row for row in rows if row["autoencoder"] == name]) for name in names]


def _line(name: str, rows: list[Row]) -> Row:
    def middle(values: Iterable[float | None], scale: float = 1.0) -> float | None:
        known = [scale * value for value in values if value is not None]
        return median(known) if known else None

    fields = ("encoder_ceiling_db", "boosted_db", "decoder_ceiling_db", "decoder_steps")
    shares = [row["share"] for row in rows if row["share"] is not None]
    pairs = [(row["without_proximal_db"], row["boosted_db"]) for row in rows]
    return {
        "autoencoder": name,
        "photos": len(rows),
        **{field: middle(row[field] for row in rows) for field in fields},
        "percent": middle(shares, 100),
        "worst_percent": 100 * min(shares) if shares else None,
        "proximal_cost_db": middle(a - b for a, b in pairs if a is not None and b is not None),
        "percent_moved": middle((row["distance"] for row in rows), 100),
        "ceiling_percent_moved": middle((row["ceiling_distance"] for row in rows), 100),
    }


def to_markdown(lines: Sequence[Row]) -> str:
    """The table of `tabulate`, medians over the photos."""
    head = ["autoencoder", *(title for title, _ in COLUMNS.values())]
    body = [[line["autoencoder"], *cells(line)] for line in lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, ["---"] * len(head), *body])


def cells(line: Row) -> list[str]:
    """A line's figures as texts, in the columns' order."""
    return [
        "" if line[field] is None else f"{line[field]:.{digits}f}" for field, (_, digits) in COLUMNS.items()
    ]
