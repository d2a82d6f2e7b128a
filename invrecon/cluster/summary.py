"""What the notes beside results say of all runs: figures, failures by cause, and one page."""

import base64
import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from invrecon.cluster.notes import read_notes
from invrecon.cluster.store import Store
from invrecon.errors import UsageError, printable

Row = dict[str, Any]
WORST = 20  # inputs on the page


@dataclass(frozen=True)
class Summary:
    """Rows of all inputs, by name.

    Args:
        done: those that are done: their name, their files and their figures.
        failed: those whose last try failed: their name and their error.
    """

    done: list[Row]
    failed: list[Row]

    @property
    def causes(self) -> list[tuple[str, int]]:
        """How many inputs failed of each cause, the most frequent first."""
        counts: dict[str, int] = {}
        for row in self.failed:
            cause = _cause(row)
            counts[cause] = counts.get(cause, 0) + 1
        return sorted(counts.items(), key=lambda one: (-one[1], one[0]))

    def values(self, name: str) -> list[float]:
        """A figure of all inputs that have it, smallest first."""
        return sorted(row[name] for row in self.done if isinstance(row.get(name), int | float))

    @property
    def worst(self) -> list[Row]:
        """The inputs with the least PSNR."""
        known = [row for row in self.done if row.get("psnr") is not None]
        return sorted(known, key=lambda row: (row["psnr"], row["input"]))[:WORST]


def summarize(store: Store) -> Summary:
    """Reads the notes in a folder or at an address.

    Raises:
        UsageError: there are none, or they can't be read.
    """
    notes = read_notes(store, store.names())
    if not notes:
        raise UsageError(f"{printable(store.out)}: has no notes; only runs with --resume leave them")
    done, failed = {}, {}
    for note in sorted(notes.values(), key=lambda note: note.get("at", 0.0)):
        name = str(note.get("input", ""))
        if "error" in note:
            failed[name] = {"input": name, "error": str(note["error"])}
        elif note.get("figures") is not None:
            done[name] = {"input": name, "pack": note.get("pack")} | note.get("files", {}) | note["figures"]
            failed.pop(name, None)
    return Summary([done[name] for name in sorted(done)], [failed[name] for name in sorted(failed)])


def quantile(values: Sequence[float], part: float) -> float | None:
    """The value below which that part of sorted values lies; None where there are none."""
    return values[min(len(values) - 1, int(part * len(values)))] if values else None


def parquet(rows: Sequence[Row]) -> bytes | None:
    """A table of rows, whatever isn't a number or text as JSON; None where pyarrow isn't installed."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return None
    flat = [
        {
            name: json.dumps(value) if isinstance(value, dict | list) else _clean(value)
            for name, value in row.items()
        }
        for row in rows
    ]
    names = dict.fromkeys(name for row in flat for name in row)
    table = pa.table({name: [row.get(name) for row in flat] for name in names})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def page(summary: Summary, store: Store) -> str:
    """One HTML page without scripts: the distribution of PSNR, failures by cause, the worst twenty with their
    sheets, which are in the page itself.
    """
    psnr = summary.values("psnr")
    told = [f"{len(summary.done)} done, {len(summary.failed)} failed."]
    if psnr:
        low, middle, high = (quantile(psnr, part) for part in (0.05, 0.5, 0.95))
        told.append(f"PSNR: median {middle:.2f} dB; 5 % lie below {low:.2f} dB, 5 % above {high:.2f} dB.")
    parts = [f"<p>{' '.join(told)}</p>", _histogram(psnr)]
    if summary.causes:
        lines = "".join(
            f"<tr><td>{count}</td><td>{html.escape(cause)}</td></tr>" for cause, count in summary.causes
        )
        parts.append(f"<h2>Failures by cause</h2><table>{lines}</table>")
    if summary.worst:
        parts.append(f"<h2>The worst {len(summary.worst)}</h2>")
        parts += [_figure(row, store) for row in summary.worst]
    style = "body{font:16px sans-serif;max-width:1100px;margin:2em auto;padding:0 1em}img{max-width:100%}"
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>invrecon: summary</title>'
        f"<style>{style}td{{padding:0 1em 0 0}}</style><h1>Summary</h1>{''.join(parts)}</html>\n"
    )


def _figure(row: Row, store: Store) -> str:
    """An input of the worst, with its sheet where that is a file of its own."""
    title = f"{html.escape(printable(row['input']))}: {row['psnr']:.2f} dB"
    sheet, picture = row.get("compare_file"), ""
    if sheet and not row.get("pack"):
        try:
            [(_, content)] = store.read([sheet])
            data = base64.b64encode(content).decode()
            picture = f'<img alt="comparison" src="data:image/png;base64,{data}">'
        except (OSError, ValueError):
            picture = "<p>Its sheet is gone.</p>"
    return f"<h3>{title}</h3>{picture}"


def _histogram(values: Sequence[float], bins: int = 30) -> str:
    """Bars of how many values lie where, with the ends of the axis."""
    if not values:
        return ""
    low, high = values[0], values[-1]
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int((value - low) / ((high - low) or 1.0) * bins))] += 1
    bars = "".join(
        f'<rect x="{k * 20}" y="{200 - 190 * count / max(counts):.1f}" width="18" '
        f'height="{190 * count / max(counts):.1f}" fill="#467"><title>{count}</title></rect>'
        for k, count in enumerate(counts)
    )
    ends = (
        f'<text x="0" y="220">{low:.2f} dB</text>'
        f'<text x="{bins * 20}" y="220" text-anchor="end">{high:.2f} dB</text>'
    )
    return (
        f'<h2>Distribution of PSNR</h2><svg viewBox="0 0 {bins * 20} 230" role="img" '
        f'aria-label="distribution of PSNR">{bars}{ends}</svg>'
    )


def _cause(row: Row) -> str:
    """An error without the names in it, so that equal causes are counted together."""
    error = row["error"].rpartition(f"{printable(row['input']).rpartition('/')[2]}: ")[2]
    return re.sub(r"\b[\w./-]*/[\w./-]+", "...", error)


def _clean(value: Any) -> Any:
    """Text that UTF-8 can hold: a file's name needn't be any."""
    return printable(value) if isinstance(value, str) else value
