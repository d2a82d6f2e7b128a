"""The report's tables of results: one for each track of a setting, and equal budgets side by side."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

from invrecon.audit.methods.plan import OURS
from invrecon.audit.methods.report.markup import (
    NONE_PUBLISHED,
    TRACKS,
    Row,
    by_track,
    method_cell,
    number,
    table_of,
)

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


def published_results(tables: Sequence[Row], notes: Mapping[str, str]) -> str:
    """Per setting the tables of published settings; those from boosted latents are folded away below."""
    page, published = "", [table for table in tables if table["budget"] is None]
    for setting in dict.fromkeys(table["setting"] for table in published):
        page += f"<h3>{escape(setting)}</h3>"
        for table in sorted(
            (table for table in published if table["setting"] == setting), key=lambda table: table["boosted"]
        ):
            body = "".join(_ranking(track, rows, notes) for track, rows in by_track(table["rows"]))
            fold = "<details><summary>The same from ILB's boosted latents</summary>"
            page += f"{fold}{body}</details>" if table["boosted"] else body
    return page or NONE_PUBLISHED


def _ranking(track: str, rows: list[Row], notes: Mapping[str, str]) -> str:
    """One track of one setting, best median fidelity first; each column's best is bold if they differ."""
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
        head.insert(5, f"PSNR to {OURS}, dB [95 %]")
        columns.insert(4, _differences(rows))
    return table_of(
        TRACKS[track],
        head,
        list(zip((method_cell(row["method"], notes) for row in rows), *columns, strict=True)),
    )


def _emphasised(values: Sequence[float | None], digits: int, best: Callable[..., float] | None) -> list[str]:
    shown = [number(value, digits) for value in values]
    finite = [value for value in values if value is not None and math.isfinite(value)]
    top = number(best(finite), digits) if best and finite and len(set(shown)) > 1 else None
    return [f"<b>{text}</b>" if text == top else text for text in shown]


def _differences(rows: Sequence[Row]) -> list[str]:
    """Each row's difference to ours with its interval, in figures and drawn; left of the line is worse."""
    spans = [
        [end for end in (row["difference_to_lbo_db"], *(row["interval"] or ())) if end is not None]
        for row in rows
    ]
    reach = max((abs(end) for span in spans for end in span), default=0) or 1
    cells = []
    for row, span in zip(rows, spans, strict=True):
        if row["method"] == OURS or not span:
            cells.append("reference" if row["method"] == OURS else "–")
            continue
        middle, *ends = (45 + 40 * end / reach for end in span)
        bar = f'<path d="M{ends[0]:.1f} 7H{ends[1]:.1f}"/>' if len(ends) == 2 else ""
        drawn = f'<path class="zero" d="M45 0V14"/>{bar}<circle cx="{middle:.1f}" cy="7" r="3"/>'
        text = number(span[0], 1) + (
            f" [{number(span[1], 1)}, {number(span[2], 1)}]" if len(ends) == 2 else ""
        )
        cells.append(f'{text} <svg class="forest" viewBox="0 0 90 14" aria-hidden="true">{drawn}</svg>')
    return cells


def equal_budgets(tables: Sequence[Row], notes: Mapping[str, str]) -> str:
    """Per setting a table of all methods at each budget of evaluations a step."""
    page, equal = "", [table for table in tables if table["budget"] is not None]
    for setting, boosted in dict.fromkeys((table["setting"], table["boosted"]) for table in equal):
        page += f"<h3>{escape(setting)}{', from boosted latents' if boosted else ''}</h3>"
        chosen = [table for table in equal if (table["setting"], table["boosted"]) == (setting, boosted)]
        budgets = sorted({table["budget"] for table in chosen})
        for track, rows in by_track(
            {**row, "budget": table["budget"]} for table in chosen for row in table["rows"]
        ):
            placed = {(row["method"], row["budget"]): row for row in rows}
            names = dict.fromkeys(name for name, _ in placed)
            columns = [_budget_column([placed.get((name, budget)) for name in names]) for budget in budgets]
            head = ["Method", *(f"{budget} evaluation{'s' * (budget != 1)}" for budget in budgets)]
            page += table_of(
                TRACKS[track],
                head,
                list(zip((method_cell(name, notes) for name in names), *columns, strict=True)),
            )
    return page


def _budget_column(rows: Sequence[Row | None]) -> list[str]:
    medians = _emphasised([row["median_fidelity_db"] if row else None for row in rows], 1, max)
    return [
        f"{shown}<small>worst {number(row['worst_fidelity_db'], 1)} · PSNR {number(row['median_psnr'], 1)}"
        f" · used {number(row['evaluations_per_step'], 2)}</small>"
        if row
        else "–"
        for shown, row in zip(medians, rows, strict=True)
    ]
