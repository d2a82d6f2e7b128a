"""The audit's report: one page that holds all it shows and loads nothing."""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import median
from typing import Any

from invrecon.audit.album import album
from invrecon.writing import replacing

Row = Mapping[str, Any]

_OURS = "LBO"
_TRACKS = {
    "A": "Track A: the seed alone, through the unmodified sampler",
    "B": "Track B: the seed with stored extras, or a sampler of its own",
}
_HEALTH = {"norm": 1.0, "autocorrelation": 0.0, "normality": 0.0}  # what white Gaussian noise has
_STAGES = ("encoder", "boosting", "trajectory", "guidance", "eight_bits")
# title, key, digits, which of a column's values is best
_COLUMNS: tuple[tuple[str, str, int, Callable[..., float] | None], ...] = (
    ("Fidelity, dB", "median_fidelity_db", 1, max),
    ("worst", "worst_fidelity_db", 1, max),
    ("PSNR, dB", "median_psnr", 2, max),
    ("worst", "worst_psnr", 2, max),
    ("SSIM", "median_ssim", 3, max),
    ("LPIPS", "lpips", 3, min),
    ("Evaluations a step", "evaluations_per_step", 2, min),
    ("Backward passes a step", "backward_per_step", 2, None),
    ("Seconds", "seconds", 1, min),
    ("Stored, KiB", "stored_kib", 1, min),
    ("Diverged steps", "diverged_steps", 0, None),
    ("Failed runs", "failed", 0, None),
    ("Photos", "photos", 0, None),
)


def write_report(summary: Row, rows: Sequence[Row], folder: Path) -> Path:
    """Writes `folder`/report.html, whole or not at all, and returns its path.

    `summary` and `rows` are what summary.json and results.jsonl hold; the pictures that the rows name lie under `folder`, and one
    that is missing is left out. Raises InvreconError, in one line, where the disk doesn't take the page.
    """
    runs = [row for row in rows if row["kind"] == "run"]
    photos = [row for row in rows if row["kind"] == "photo"]
    notes = {name: method.get("note") or "" for name, method in summary["methods"].items()}
    parts = {
        "title": escape(
            f"Inversion audit: {summary['model']['name']}, {summary['size']} pixels, {summary['steps']} steps"
        ),
        "lead": f"Photos: {len(photos)}. Runs: {len(runs)}, of which {sum(bool(run['error']) for run in runs)} ended in an error.",
        "verdict": _verdict(summary["verdict"]),
        "results": _results(summary["tables"], notes),
        "budgets": _budgets(summary["tables"], notes),
        "losses": _losses(photos, summary["losses"]),
        "health": _health(runs, notes),
        "failures": _failures(runs, notes),
        "notes": _items(f"<b>{escape(name)}†</b> {escape(note)}" for name, note in notes.items() if note),
        "remarks": _items(map(escape, summary["remarks"])),
        "origin": _origin(summary),
        "data": _script_json(
            {**album(photos, runs, folder), "methods": summary["methods"], "tables": summary["tables"]}
        ),
    }
    template = Path(__file__).with_name("report.html").read_text("utf-8")
    page = re.sub(
        r"<!-- (\w+) -->", lambda found: parts[found[1]], template
    )  # one pass: what data says is never a place
    path = folder / "report.html"
    with replacing(path) as partial:
        partial.write_text(page, "utf-8", errors="replace")
    return path


def _number(value: float | None, digits: int) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def _method(name: str, notes: Mapping[str, str]) -> str:
    note = notes.get(name)
    dagger = (
        f'<a class="dagger" href="#notes" title="{escape(note)}" aria-label="see the note">†</a>'
        if note
        else ""
    )
    return escape(name) + dagger


def _items(items: Iterable[str]) -> str:
    return "<ul>" + ("".join(f"<li>{item}</li>" for item in items) or "<li>None.</li>") + "</ul>"


def _table(caption: str, head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table that scrolls in its own box; all texts are HTML, the first cell of each row is its heading."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    lines = ""
    for first, *cells in body:
        ours = ' class="ours"' if first.partition("<")[0] == _OURS else ""
        lines += (
            f'<tr{ours}><th scope="row">{first}</th>'
            + "".join(f"<td>{cell}</td>" for cell in cells)
            + "</tr>\n"
        )
    table = f'<table aria-label="{caption}"><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>'
    return f'<figure class="table"><figcaption>{caption}</figcaption><div class="scroll" tabindex="0">{table}</div></figure>\n'


def _tracks(rows: Iterable[Row]) -> Iterator[tuple[str, list[Row]]]:
    """The rows of each track on their own: they are never ranked together."""
    every = list(rows)
    for track in _TRACKS:
        if chosen := [row for row in every if row["track"] == track]:
            yield track, chosen


def _verdict(verdict: Sequence[Row]) -> str:
    """Each claim with its reason; a long reason is folded."""
    items = ""
    for claim in verdict:
        mark, text = ("holds", "✓ Holds") if claim["holds"] else ("fails", "✗ Does not hold")
        why = f"<p>{escape(claim['why'])}</p>"
        why = why if len(why) < 400 else f"<details><summary>Why</summary>{why}</details>"
        items += f'<li class="{mark}"><b>{text}</b><p class="claim">{escape(claim["claim"])}</p>{why}</li>'
    kept = sum(claim["holds"] for claim in verdict)
    return f'<p class="score">Claims that hold: {kept} of {len(verdict)}</p><ul class="verdict">{items}</ul>'


def _results(tables: Sequence[Row], notes: Mapping[str, str]) -> str:
    """Per setting the tables of published settings; those from boosted latents are folded away below."""
    page, published = "", [table for table in tables if table["budget"] is None]
    for setting in dict.fromkeys(table["setting"] for table in published):
        page += f"<h3>{escape(setting)}</h3>"
        for table in sorted(
            (table for table in published if table["setting"] == setting), key=lambda table: table["boosted"]
        ):
            body = "".join(_ranking(track, rows, notes) for track, rows in _tracks(table["rows"]))
            fold = "<details><summary>The same from ILB's boosted latents</summary>"
            page += f"{fold}{body}</details>" if table["boosted"] else body
    return page


def _ranking(track: str, rows: list[Row], notes: Mapping[str, str]) -> str:
    """One track of one setting, best median fidelity first; the best of each column is bold where they differ."""
    rows = [
        {**row, "stored_kib": None if row["stored_bytes"] is None else row["stored_bytes"] / 1024}
        for row in rows
    ]
    rows.sort(
        key=lambda row: -math.inf if row["median_fidelity_db"] is None else row["median_fidelity_db"],
        reverse=True,
    )
    columns = [_emphasised([row.get(key) for row in rows], digits, best) for _, key, digits, best in _COLUMNS]
    head = ["Method", *(title for title, *_ in _COLUMNS)]
    if all(row["lpips"] is None for row in rows):
        head[head.index("LPIPS")] = "LPIPS <small>not measured</small>"
    if track == "A":  # a difference across tracks would rank them together
        head.insert(5, f"PSNR to {_OURS}, dB [95 %]")
        columns.insert(4, _differences(rows))
    return _table(
        _TRACKS[track],
        head,
        list(zip((_method(row["method"], notes) for row in rows), *columns, strict=True)),
    )


def _emphasised(values: Sequence[float | None], digits: int, best: Callable[..., float] | None) -> list[str]:
    shown = [_number(value, digits) for value in values]
    finite = [value for value in values if value is not None and math.isfinite(value)]
    top = _number(best(finite), digits) if best and finite and len(set(shown)) > 1 else None
    return [f"<b>{text}</b>" if text == top else text for text in shown]


def _differences(rows: Sequence[Row]) -> list[str]:
    """Each row's difference to ours with its interval, in figures and drawn on one scale; left of the line is worse than ours."""
    spans = [
        [end for end in (row["difference_to_lbo_db"], *(row["interval"] or ())) if end is not None]
        for row in rows
    ]
    reach = max((abs(end) for span in spans for end in span), default=0) or 1
    cells = []
    for row, span in zip(rows, spans, strict=True):
        if row["method"] == _OURS or not span:
            cells.append("reference" if row["method"] == _OURS else "–")
            continue
        middle, *ends = (45 + 40 * end / reach for end in span)
        bar = f'<path d="M{ends[0]:.1f} 7H{ends[1]:.1f}"/>' if len(ends) == 2 else ""
        drawn = f'<path class="zero" d="M45 0V14"/>{bar}<circle cx="{middle:.1f}" cy="7" r="3"/>'
        text = _number(span[0], 1) + (
            f" [{_number(span[1], 1)}, {_number(span[2], 1)}]" if len(ends) == 2 else ""
        )
        cells.append(f'{text} <svg class="forest" viewBox="0 0 90 14" aria-hidden="true">{drawn}</svg>')
    return cells


def _budgets(tables: Sequence[Row], notes: Mapping[str, str]) -> str:
    page, equal = "", [table for table in tables if table["budget"] is not None]
    for setting, boosted in dict.fromkeys((table["setting"], table["boosted"]) for table in equal):
        page += f"<h3>{escape(setting)}{', from boosted latents' if boosted else ''}</h3>"
        chosen = [table for table in equal if (table["setting"], table["boosted"]) == (setting, boosted)]
        budgets = sorted({table["budget"] for table in chosen})
        for track, rows in _tracks(
            {**row, "budget": table["budget"]} for table in chosen for row in table["rows"]
        ):
            found = {(row["method"], row["budget"]): row for row in rows}
            names = dict.fromkeys(name for name, _ in found)
            columns = [_budget_column([found.get((name, budget)) for name in names]) for budget in budgets]
            head = ["Method", *(f"{budget} evaluations" for budget in budgets)]
            page += _table(
                _TRACKS[track],
                head,
                list(zip((_method(name, notes) for name in names), *columns, strict=True)),
            )
    return page


def _budget_column(rows: Sequence[Row | None]) -> list[str]:
    medians = _emphasised([row["median_fidelity_db"] if row else None for row in rows], 1, max)
    return [
        f"{shown}<small>worst {_number(row['worst_fidelity_db'], 1)} · PSNR {_number(row['median_psnr'], 1)}"
        f" · used {_number(row['evaluations_per_step'], 2)}</small>"
        if row
        else "–"
        for shown, row in zip(medians, rows, strict=True)
    ]


def _losses(photos: Sequence[Row], losses: Sequence[Row]) -> str:
    stages = {loss["photo"]: loss for loss in losses}
    head = [
        "Photo",
        "Ceiling of the encoder",
        "of the decoder",
        *(f"After: {stage.replace('_', ' ')}" for stage in _STAGES),
        "SHA-256",
    ]
    body = []
    for photo in photos:
        values = (
            photo["encoder_ceiling_db"],
            photo["decoder_ceiling_db"],
            *(stages.get(photo["photo"], {}).get(key) for key in _STAGES),
        )
        digest = f'<code title="{escape(photo["sha256"])}">{escape(photo["sha256"][:8])}</code>'
        body.append([escape(photo["photo"]), *(_number(value, 2) for value in values), digest])
    return _table("PSNR in dB; from left to right, one stage after the other is added", head, body)


def _health(runs: Sequence[Row], notes: Mapping[str, str]) -> str:
    """Each method's seeds at its published settings: median over the photos and, in brackets, the one farthest from noise."""
    page, settings = "", list(dict.fromkeys(run["setting"] for run in runs))
    head = ["Method", *(f"<small>{escape(setting)}</small>{key}" for setting in settings for key in _HEALTH)]
    for track, rows in _tracks(run for run in runs if run["budget"] is None and not run["boosted"]):
        body = []
        for name in dict.fromkeys(run["method"] for run in rows):
            mine = [
                [run["health"] or {} for run in rows if (run["method"], run["setting"]) == (name, setting)]
                for setting in settings
            ]
            cells = [
                _spread([seed.get(key) for seed in seeds], ideal)
                for seeds in mine
                for key, ideal in _HEALTH.items()
            ]
            body.append([_method(name, notes), *cells])
        page += _table(_TRACKS[track], head, body)
    return page


def _spread(values: Sequence[float | None], ideal: float) -> str:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if not finite:
        return "–"
    return f"{_number(median(finite), 3)} ({_number(max(finite, key=lambda value: abs(value - ideal)), 3)})"


def _failures(runs: Sequence[Row], notes: Mapping[str, str]) -> str:
    head = ["Method", "Photo", "Setting", "Budget", "Error"]
    body = [
        [_method(run["method"], notes), *(escape(str(run[key.lower()] or "published")) for key in head[1:])]
        for run in runs
        if run["error"]
    ]
    return _table("Runs that ended in an error", head, body) if body else "<p>No run ended in an error.</p>"


def _origin(summary: Row) -> str:
    facts = {
        "model": summary["model"]["name"],
        "fingerprint": summary["model"]["fingerprint"],
        **summary["versions"],
    }
    listed = "".join(
        f"<div><dt>{escape(key)}</dt><dd><code>{escape(str(value))}</code></dd></div>"
        for key, value in facts.items()
    )
    return f"<pre><code>{escape(summary['command'])}</code></pre><dl>{listed}</dl>"


def _script_json(value: Any) -> str:
    """JSON that can stand inside a script tag."""
    return json.dumps(_plain(value), allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _plain(value: Any) -> Any:
    """`value` with floats in six digits, None where they aren't finite."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
