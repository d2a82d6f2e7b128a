"""From rows to tables: medians, worst cases, and paired intervals, so that "better" means something."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from invrecon.audit.methods.plan import OURS
from invrecon.audit.methods.verdict import verdict_of

Row = dict[str, Any]


def interval(
    differences: Sequence[float], level: float = 0.95, draws: int = 10_000
) -> tuple[float, float] | None:
    """Bootstrap percentile interval of the mean of paired differences; None for fewer than three.

    Draws are seeded: the same rows give the same interval.
    """
    if len(differences) < 3:
        return None
    values = np.asarray(differences, np.float64)
    means = np.random.default_rng(0).choice(values, (draws, len(values))).mean(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def summarise(rows: Sequence[Row], methods: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    """The summary of an audit.

    Args:
        rows: of the journal.
        methods: by name, track and note.
        context: command, versions, model, steps and size; taken over as it is.
    """
    runs = [row for row in rows if row["kind"] == "run"]
    photos = [row for row in rows if row["kind"] == "photo"]
    order = list(methods)

    def place(row: Row) -> tuple[Any, ...]:
        return row["guidance_scale"], row["prompt"] != "", row["setting"], row["boosted"], row["budget"] or 0

    groups = groupby(sorted(runs, key=place), place)
    tables = [_table(where[2:], list(group), order) for where, group in groups]
    losses = [loss for photo in photos if (loss := _losses(photo, runs))]
    return context | {
        "methods": methods,
        "tables": tables,
        "verdict": verdict_of(runs, tables),
        "losses": losses,
    }


def _losses(photo: Row, runs: list[Row]) -> dict[str, Any] | None:
    """PSNR of LBO + ILB on one photo after each stage, with the weakest and the strongest guidance run."""
    ours = [
        row for row in runs if row["photo"] == photo["photo"] and row["method"] == OURS and row["boosted"]
    ]
    if not ours:
        return None
    weakest, strongest = (choose(ours, key=lambda row: row["guidance_scale"]) for choose in (min, max))
    return {
        "photo": photo["photo"],
        "encoder": photo["encoder_ceiling_db"],
        "boosting": weakest["psnr_of_z_0"],
        "trajectory": weakest["psnr_unrounded"],
        "guidance": strongest["psnr_unrounded"],
        "eight_bits": strongest["psnr"],
    }


def _table(place: tuple[Any, ...], runs: list[Row], order: list[str]) -> dict[str, Any]:
    setting, boosted, budget = place
    by_method = {name: [row for row in runs if row["method"] == name] for name in order}
    ours = {row["photo"]: row for row in by_method.get(OURS, [])}
    lines = [_line(name, of_method, ours) for name, of_method in by_method.items() if of_method]
    return {"setting": setting, "boosted": boosted, "budget": budget or None, "rows": lines}


def _line(method: str, runs: list[Row], ours: dict[str, Row]) -> dict[str, Any]:
    def over(function: Callable[[Any], Any], field: str) -> float | None:
        values = [row[field] for row in runs if row[field] is not None]
        return float(function(values)) if values else None

    paired = [(row["psnr"], ours[row["photo"]]["psnr"]) for row in runs if row["photo"] in ours]
    differences = [theirs - own for theirs, own in paired if theirs is not None and own is not None]
    return {
        "method": method,
        "track": runs[0]["track"],
        "photos": len(runs),
        "median_psnr": over(np.median, "psnr"),
        "worst_psnr": over(min, "psnr"),
        "median_ssim": over(np.median, "ssim"),
        "lpips": over(np.median, "lpips"),
        "median_fidelity_db": over(np.median, "latent_fidelity_db"),
        "worst_fidelity_db": over(min, "latent_fidelity_db"),
        "evaluations_per_step": over(np.mean, "evaluations_per_step"),
        "backward_per_step": float(np.mean([row["backward"] / row["steps"] for row in runs])),
        "seconds": over(np.median, "seconds"),
        "stored_bytes": over(max, "stored_bytes"),
        "diverged_steps": over(sum, "diverged_steps"),
        "failed": sum(row["error"] is not None or (row["latent_fidelity_db"] or 0) <= 0 for row in runs),
        "difference_to_lbo_db": float(np.mean(differences)) if differences and method != OURS else None,
        "interval": interval(differences) if method != OURS else None,
    }
