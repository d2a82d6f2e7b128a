"""The audit's report: one page that holds all it shows and loads nothing."""

import json
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from invrecon.audit.json_values import shortened
from invrecon.audit.methods.report.album import album
from invrecon.audit.methods.report.autoencoders import LINK, autoencoders
from invrecon.audit.methods.report.markup import Row, items
from invrecon.audit.methods.report.results import equal_budgets, published_results
from invrecon.audit.methods.report.sections import failures, grid, health, losses, origin, verdict
from invrecon.writing import replacing


def write_report(summary: Row, rows: Sequence[Row], folder: Path) -> Path:
    """Writes `folder`/report.html, whole or not at all, and returns its path.

    Args:
        summary: what summary.json holds.
        rows: what results.jsonl holds: of runs, photos and autoencoders. The pictures that they name lie
            under `folder`; missing ones are left out. Where no model was loaded the page has no sections on
            methods.

    Raises:
        InvreconError: the disk doesn't take the page.
    """
    runs = [row for row in rows if row["kind"] == "run"]
    photos = [row for row in rows if row["kind"] == "photo"]
    notes = {name: method.get("note") or "" for name, method in summary["methods"].items()}
    latents = [row for row in rows if row["kind"] == "autoencoder"]
    tables = summary["tables"]
    parts = {
        "runs": "",
        "end_runs": "",
        "title": escape(f"Inversion audit: {grid(summary)}"),
        "lead": _lead(photos, runs) if summary["model"] else _lead_of_autoencoders(latents),
        "link": LINK if latents else "",
        "autoencoders": autoencoders(summary.get("autoencoders", ()), latents, folder),
        "verdict": verdict(summary["verdict"]),
        "results": published_results(tables, notes),
        "budgets": equal_budgets(tables, notes),
        "losses": losses(photos, summary["losses"]),
        "health": health(runs, notes),
        "failures": failures(runs, notes),
        "notes": items(f"<b>{escape(name)}†</b> {escape(note)}" for name, note in notes.items() if note),
        "remarks": items(map(escape, summary["remarks"])),
        "origin": origin(summary),
        "data": _script_json(
            {**album(photos, runs, folder), "methods": summary["methods"], "tables": tables}
        ),
    }
    template = Path(__file__).with_name("report.html").read_text("utf-8")
    if not summary["model"]:
        template = re.sub("<!-- runs -->.*?<!-- end_runs -->", "", template, flags=re.DOTALL)
    # one pass, so that nothing in the data is taken for a place of the template
    page = re.sub(r"<!-- (\w+) -->", lambda place: parts[place[1]], template)
    path = folder / "report.html"
    with replacing(path) as partial:
        partial.write_text(page, "utf-8", errors="replace")
    return path


def _lead_of_autoencoders(rows: Sequence[Row]) -> str:
    photos, spaces = ({row[field] for row in rows} for field in ("sha256", "fingerprint"))
    return f"Photos: {len(photos)}. Autoencoders: {len(spaces)}."


def _lead(photos: Sequence[Row], runs: Sequence[Row]) -> str:
    failed = sum(bool(run["error"]) for run in runs)
    return (
        f"Photos: {len(photos)}. Runs: {len(runs)}, of which {failed} ended in an error. All methods had the "
        "same model, crops, prompts and time steps. A dagger marks a method whose publication leaves details "
        "open."
    )


def _script_json(value: Any) -> str:
    """JSON that can stand inside a script tag."""
    return json.dumps(shortened(value), allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
