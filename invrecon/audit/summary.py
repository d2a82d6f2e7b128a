"""From rows to tables and verdicts: medians, worst cases, and paired intervals, so that "better" means something."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from invrecon.audit.plan import OURS

Row = dict[str, Any]
ENOUGH = 60.0  # dB of latent fidelity: more can't be seen in an 8-bit picture


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

    tables = [_table(key[2:], list(group), order) for key, group in groupby(sorted(runs, key=place), place)]
    losses = [loss for photo in photos if (loss := _losses(photo, runs))]
    return context | {
        "methods": methods,
        "tables": tables,
        "verdict": _verdict(runs, tables),
        "losses": losses,
    }


def _losses(photo: Row, runs: list[Row]) -> dict[str, Any] | None:
    """PSNR of LBO + ILB on one photo, stage by stage: without guidance, then with the strongest that was run."""
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


def _table(key: tuple[Any, ...], runs: list[Row], order: list[str]) -> dict[str, Any]:
    setting, boosted, budget = key
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


def _verdict(runs: list[Row], tables: list[dict[str, Any]]) -> list[dict[str, Any]]:
    claims = [_cheapest(tables, w) for w in ("w = 1", "w = 3")]
    return [
        claim for claim in (*claims, _never_worse(tables), _most_robust(runs), _best_picture(runs)) if claim
    ]


def _claim(claim: str, holds: bool, why: str) -> dict[str, Any]:
    return {"claim": claim, "holds": holds, "why": why}


def _cheapest(tables: list[dict[str, Any]], guidance: str) -> dict[str, Any] | None:
    """Claim: LBO gets to 60 dB on the median photo with the fewest evaluations of all in track A."""
    lines = [
        line
        for table in tables
        if table["setting"].endswith(guidance) and not table["boosted"]
        for line in table["rows"]
    ]
    there = [line for line in lines if line["track"] == "A" and (line["median_fidelity_db"] or 0) >= ENOUGH]
    costs = {
        name: min(line["evaluations_per_step"] for line in there if line["method"] == name)
        for name in {x["method"] for x in there}
    }
    if not lines:
        return None
    others = {name: cost for name, cost in costs.items() if name != OURS}
    text = f"At {guidance} LBO reaches {ENOUGH:g} dB latent fidelity with fewer evaluations than every other seed-only method"
    if OURS not in costs:
        return _claim(text, False, "LBO does not reach it on the median photo.")
    rival = min(others, key=lambda name: others[name], default=None)
    rest = f"the next, {rival}, {others[rival]:.2f}" if rival else "no other reaches it at the budgets tried"
    return _claim(
        text,
        not rival or costs[OURS] < others[rival],
        f"LBO takes {costs[OURS]:.2f} evaluations a step; {rest}.",
    )


def _never_worse(tables: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Claim: at equal budget LBO's median latent fidelity is the highest of track A."""
    beaten, compared = [], 0
    for table in (table for table in tables if table["budget"] and not table["boosted"]):
        lines = {
            line["method"]: line["median_fidelity_db"] or 0 for line in table["rows"] if line["track"] == "A"
        }
        for name, value in lines.items():
            if OURS in lines and name != OURS:
                compared += 1
                if value > lines[OURS]:
                    beaten.append(
                        f"{name} at {table['budget']} evaluations, {table['setting']} ({value:.1f} against {lines[OURS]:.1f} dB)"
                    )
    why = f"Worse than {'; '.join(beaten)}." if beaten else f"Holds in all {compared} comparisons of medians."
    return (
        _claim("At equal budget LBO is never worse than any other seed-only method", not beaten, why)
        if compared
        else None
    )


def _most_robust(runs: list[Row]) -> dict[str, Any] | None:
    """Claim: at guidance 7.5 LBO gets more photos to 30 dB than any other of track A, over all budgets."""
    strong = [
        row for row in runs if row["guidance_scale"] == 7.5 and row["track"] == "A" and not row["boosted"]
    ]
    if not strong:
        return None
    good = dict.fromkeys({row["method"] for row in strong}, 0)
    for row in strong:
        good[row["method"]] += (row["latent_fidelity_db"] or 0) >= 30
    rival = max((name for name in good if name != OURS), key=lambda name: good[name], default=None)
    why = f"LBO: {good.get(OURS, 0)} runs of 30 dB or more" + (
        f"; the next, {rival}: {good[rival]}." if rival else "."
    )
    holds = not rival or good.get(OURS, 0) > good[rival]
    return _claim("At w = 7.5 LBO converges on more photos than any other seed-only method", holds, why)


def _best_picture(runs: list[Row]) -> dict[str, Any] | None:
    """Claim: LBO on boosted latents has the highest PSNR of all runs, on each photo and setting."""
    boosted = {
        (row["photo"], row["setting"]): row["psnr"] or 0
        for row in runs
        if row["boosted"] and row["method"] == OURS
    }
    if not boosted:
        return None
    losses = []
    for row in runs:
        place = row["photo"], row["setting"]
        if not row["boosted"] and place in boosted and (row["psnr"] or 0) > boosted[place]:
            losses.append(f"{row['method']} on {row['photo']}, {row['setting']}")
    why = (
        f"Beaten by {'; '.join(losses)}."
        if losses
        else f"Holds on all {len(boosted)} pairs of photo and setting."
    )
    return _claim(
        "LBO and ILB together beat every method of both tracks in PSNR of the saved picture", not losses, why
    )
