"""The report's other sections: verdict, losses, seeds' health, failures and origin."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from statistics import median

from invrecon.audit.methods.report.markup import (
    NONE_PUBLISHED,
    TRACKS,
    Row,
    by_track,
    method_cell,
    number,
    table_of,
)

_HEALTH = {"norm": 1.0, "autocorrelation": 0.0, "normality": 0.0}  # what white Gaussian noise has
_STAGES = ("encoder", "boosting", "trajectory", "guidance", "eight_bits")


def grid(summary: Row) -> str:
    """The model, where methods were run, and the grid, in words."""
    size = f"{summary['size']} pixels"
    if not summary["model"]:
        return f"autoencoders, {size}"
    return f"{summary['model']['name']}, {size}, {summary['steps']} steps"


def verdict(verdict: Sequence[Row]) -> str:
    """Each claim with its reason; a long reason is folded."""
    items = ""
    for claim in verdict:
        mark, text = ("holds", "✓ Holds") if claim["holds"] else ("fails", "✗ Does not hold")
        why = f"<p>{escape(claim['why'])}</p>"
        why = why if len(why) < 400 else f"<details><summary>Why</summary>{why}</details>"
        items += f'<li class="{mark}"><b>{text}</b><p class="claim">{escape(claim["claim"])}</p>{why}</li>'
    kept = sum(claim["holds"] for claim in verdict)
    return f'<p class="score">Claims that hold: {kept} of {len(verdict)}</p><ul class="verdict">{items}</ul>'


def losses(photos: Sequence[Row], losses: Sequence[Row]) -> str:
    """Where each photo loses PSNR: the ceilings, and what is left after each stage, dB."""
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
        body.append([escape(photo["photo"]), *(number(value, 2) for value in values), digest])
    return table_of("PSNR in dB; from left to right, one stage after the other is added", head, body)


def health(runs: Sequence[Row], notes: Mapping[str, str]) -> str:
    """Each method's seeds at published settings: median over photos, in brackets the least noise-like."""
    page, settings = "", list(dict.fromkeys(run["setting"] for run in runs))
    head = ["Method", *(f"<small>{escape(setting)}</small>{key}" for setting in settings for key in _HEALTH)]
    for track, rows in by_track(run for run in runs if run["budget"] is None and not run["boosted"]):
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
            body.append([method_cell(name, notes), *cells])
        page += table_of(TRACKS[track], head, body)
    return page or NONE_PUBLISHED


def _spread(values: Sequence[float | None], ideal: float) -> str:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if not finite:
        return "–"
    return f"{number(median(finite), 3)} ({number(max(finite, key=lambda value: abs(value - ideal)), 3)})"


def failures(runs: Sequence[Row], notes: Mapping[str, str]) -> str:
    """The runs that ended in an error, with that."""
    head = ["Method", "Photo", "Setting", "Budget", "Error"]
    body = [
        [
            method_cell(run["method"], notes),
            *(escape(str(run[key.lower()] or "published")) for key in head[1:]),
        ]
        for run in runs
        if run["error"]
    ]
    return table_of("Runs that ended in an error", head, body) if body else "<p>No run ended in an error.</p>"


def origin(summary: Row) -> str:
    """What the figures were made with: model, versions, settings."""
    model = summary["model"] or {}
    named = {"model": model["name"], "fingerprint": model["fingerprint"]} if model else {}
    facts = named | summary["versions"]
    listed = "".join(
        f"<div><dt>{escape(key)}</dt><dd><code>{escape(str(value))}</code></dd></div>"
        for key, value in facts.items()
    )
    return f"<pre><code>{escape(summary['command'])}</code></pre><dl>{listed}</dl>"
