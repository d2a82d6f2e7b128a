"""The summary as Markdown, to be pasted into a README: the verdict, then one table for each setting."""

from collections.abc import Callable
from html import escape
from typing import Any

from invrecon.audit.autoencoders.tables import to_markdown as autoencoders_to_markdown

Line = dict[str, Any]


def to_markdown(summary: dict[str, Any]) -> str:
    """The command, the verdict and the tables of what `summarise` returns.

    In a table, fidelity and PSNR are medians over the photos, first at each method's published settings.
    "At n" is the fidelity at an equal budget of n evaluations a step (for 1: one more than there are steps);
    a method that takes more has none there.
    """
    model = summary["model"]
    grid = f"{summary['size']} pixels"
    if model:
        grid = f"{summary['steps']} steps, {grid}, model {model['name']}"
    command = f"`{summary['command']}`, {grid}"
    verdict = [
        escape(f"{'Holds' if one['holds'] else '**Does not hold**'}: {one['claim']}. {one['why']}")
        for one in summary["verdict"]
    ]
    settings = dict.fromkeys(table["setting"] for table in summary["tables"])
    parts = [
        _setting(
            setting, [table for table in summary["tables"] if table["setting"] == setting], summary["steps"]
        )
        for setting in settings
    ]
    if lines := summary.get("autoencoders"):
        parts.append(
            f"Autoencoders, photos: {lines[0]['photos']}\n\n{autoencoders_to_markdown(lines).strip()}"
        )
    listed = ["\n".join(f"- {line}" for line in verdict)] if verdict else []
    return "\n\n".join([command, *listed, *parts]) + "\n"


def _setting(setting: str, tables: list[dict[str, Any]], steps: int) -> str:
    def lines(budget: int | None, boosted: bool) -> dict[str, Line]:
        return {
            line["method"]: line
            for t in tables
            if (t["budget"], t["boosted"]) == (budget, boosted)
            for line in t["rows"]
        }

    budgets = sorted({table["budget"] for table in tables if table["budget"]})
    published, boosted = lines(None, False), lines(None, True)
    columns: dict[str, Callable[[str], str]] = {
        "method": lambda name: name,
        "track": lambda name: next(
            line["track"] for t in tables for line in t["rows"] if line["method"] == name
        ),
        "fidelity dB": lambda name: _number(published.get(name), "median_fidelity_db"),
        "worst": lambda name: _number(published.get(name), "worst_fidelity_db"),
        "evaluations a step": lambda name: _number(published.get(name), "evaluations_per_step"),
        **{f"at {budget}": _affordable(lines(budget, False), budget, steps) for budget in budgets},
        "PSNR dB": lambda name: _number(published.get(name), "median_psnr", 2),
        "on boosted latents": lambda name: _number(boosted.get(name), "median_psnr", 2),
    }
    names = dict.fromkeys(line["method"] for table in tables for line in table["rows"])
    rows = [[column(name) for column in columns.values()] for name in names]
    photos = max(line["photos"] for table in tables for line in table["rows"])
    head = [list(columns), ["---"] * len(columns)]
    return "\n".join(
        [f"{setting}, photos: {photos}", "", *(f"| {' | '.join(row)} |" for row in [*head, *rows])]
    )


def _affordable(lines: dict[str, Line], budget: int, steps: int) -> Callable[[str], str]:
    most = max(1.05 * budget, 1 + 1 / steps)
    within = {name: line for name, line in lines.items() if line["evaluations_per_step"] <= most}
    return lambda name: _number(within.get(name), "median_fidelity_db")


def _number(line: Line | None, field: str, digits: int = 1) -> str:
    value = line and line[field]
    return "" if value is None else f"{value:.{digits}f}"
