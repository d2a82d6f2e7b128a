"""What an audit claims of LBO, and whether its rows bear it out."""

import math
from typing import Any

from invrecon.audit.methods.plan import OURS

Row = dict[str, Any]
ENOUGH = 60.0  # dB of latent fidelity: more can't be seen in an 8-bit picture


def verdict_of(runs: list[Row], tables: list[Row]) -> list[Row]:
    """The claims that the rows of runs and their tables can decide, each with whether it holds and why."""
    claims = [_cheapest(tables, w) for w in ("w = 1", "w = 3")]
    claims += [_never_worse(tables), _most_robust(runs), _best_picture(runs)]
    return [claim for claim in claims if claim]


def _claim(claim: str, holds: bool, why: str) -> Row:
    return {"claim": claim, "holds": holds, "why": why}


def _cheapest(tables: list[Row], guidance: str) -> Row | None:
    """Claim: LBO gets to 60 dB on the median photo with the fewest evaluations of all in track A."""
    lines = [
        line
        for table in tables
        if table["setting"].endswith(guidance) and not table["boosted"]
        for line in table["rows"]
    ]
    there = [line for line in lines if line["track"] == "A" and (line["median_fidelity_db"] or 0) >= ENOUGH]
    costs: dict[str, float] = {}
    for line in there:
        costs[line["method"]] = min(line["evaluations_per_step"], costs.get(line["method"], math.inf))
    if not lines:
        return None
    others = {name: cost for name, cost in costs.items() if name != OURS}
    text = (
        f"At {guidance} LBO reaches {ENOUGH:g} dB latent fidelity with fewer evaluations than every other "
        "seed-only method"
    )
    if OURS not in costs:
        return _claim(text, False, "LBO does not reach it on the median photo.")
    rival = min(others, key=lambda name: others[name], default=None)
    rest = f"the next, {rival}, {others[rival]:.2f}" if rival else "no other reaches it at the budgets tried"
    return _claim(
        text,
        not rival or costs[OURS] < others[rival],
        f"LBO takes {costs[OURS]:.2f} evaluations a step; {rest}.",
    )


def _never_worse(tables: list[Row]) -> Row | None:
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
                    figures = f"({value:.1f} against {lines[OURS]:.1f} dB)"
                    beaten.append(f"{name} at {table['budget']} evaluations, {table['setting']} {figures}")
    why = f"Worse than {'; '.join(beaten)}." if beaten else f"Holds in all {compared} comparisons of medians."
    text = "At equal budget LBO is never worse than any other seed-only method"
    return _claim(text, not beaten, why) if compared else None


def _most_robust(runs: list[Row]) -> Row | None:
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


def _best_picture(runs: list[Row]) -> Row | None:
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
    why = f"Holds on all {len(boosted)} pairs of photo and setting."
    if losses:
        why = f"Beaten by {'; '.join(losses)}."
    text = "LBO and ILB together beat every method of both tracks in PSNR of the saved picture"
    return _claim(text, not losses, why)
