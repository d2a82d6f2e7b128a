"""The page of all settings, configs/README.md, from their table: `python -m invrecon.settings.reference`."""

from itertools import groupby
from typing import Any

from invrecon.settings.editing import EditSettings
from invrecon.settings.imagining import Imagining
from invrecon.settings.run import Settings
from invrecon.settings.table import Setting, settings_of

GROUPS = {Settings: "", EditSettings: " (`edit` only)", Imagining: " (`imagine` only)"}

HEAD = """# Options and presets

A preset is a TOML file of settings: `invrecon reconstruct photo.jpg --config configs/smoke.toml`. Options
on the command line override it, and it overrides the settings that suit a model (`invrecon models show
NAME`). `Settings(...)` in Python takes the same names.

| preset | what it is for |
|---|---|
| [mini.toml](mini.toml) | all defaults, spelled out: copy it to write your own |
| [smoke.toml](smoke.toml) | a run that ends in seconds, to see that all works |
| [audit-quick.toml](audit-quick.toml) | `invrecon audit` in minutes |
| [audit-full.toml](audit-full.toml) | `invrecon audit` in hours, as the published tables were made |
| [audit-paper.toml](audit-paper.toml) | `invrecon audit` on COCO and a published model, for days |

The tables below are printed by `python -m invrecon.settings.reference > configs/README.md`; a test holds
that they are up to date. A command's own options (`--out`, `--json`, `--force`, `--resume` and the like)
are in its `--help`. Settings of edits and new pictures are options only, not keys of a preset. Where a row
has no option: `auto_guidance` is `--guidance-scale auto`, `to` is `--to TEXT`, `weights` are `--weight
WORD=NUMBER`.
"""


def reference() -> str:
    """The whole page, Markdown."""
    tables = [
        f"## {section}{where}\n\n{_rows(list(listed))}"
        for group, where in GROUPS.items()
        for section, listed in groupby(settings_of(group).values(), lambda one: one.section)
    ]
    return "\n".join([HEAD, *tables])


def _rows(settings: list[Setting]) -> str:
    lines = ["| option | name | values | default | what it does |", "|---|---|---|---|---|"]
    for one in settings:
        option = ", ".join(f"`{flag.replace('/', '`, `')}`" for flag in one.flags)
        cells = (option, f"`{one.name}`", _values(one), one.default_text, one.help)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _values(one: Setting) -> str:
    words = [f"`{word}`" for word in (*one.words, *(["auto"] if one.auto else []))]
    if one.pattern:
        words.append(f"`{one.pattern_shown}`")
    if one.kind in (int, float):
        words.insert(0, _range(one))
    if one.listed:
        return f"`{one.pattern_shown}`, any number"
    kinds: dict[Any, str] = {bool: "on, off", str: "text"}
    return " or ".join(words) if words else kinds.get(one.kind, "WORD=NUMBER")


def _range(one: Setting) -> str:
    number = (
        f"a multiple of {one.multiple_of}"
        if one.multiple_of > 1
        else "whole"
        if one.kind is int
        else "number"
    )
    if one.high > 1e15:
        return f"{number}, {one.low:g} or more"
    return f"{number}, {one.low:g} to {one.high:.10g}"


if __name__ == "__main__":
    print(reference(), end="")
