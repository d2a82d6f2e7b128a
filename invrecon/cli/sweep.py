"""`--sweep guidance=3,5,7.5 strength=0.4,0.6`: all combinations of some values."""

from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

from invrecon.errors import UsageError
from invrecon.settings import EditSettings, Setting, settings_of

Input = TypeVar("Input", str, Path)
_SWEPT = {  # as users write them, and without those that have texts for values, or none
    name.replace("_", "-"): one
    for name, one in settings_of(EditSettings).items()
    if name not in ("to", "negative_prompt", "weights") and one.kind is not bool
}
_SWEPT["guidance"] = _SWEPT["guidance-scale"]


def part_sweeps(inputs: Sequence[Input], sweep: Sequence[str] | None) -> tuple[list[Input], list[str]]:
    """(inputs, sweeps), where further sweeps stand among the inputs: `--sweep guidance=3,5 strength=0.4`."""
    further: list[Input] = [
        one
        for one in inputs
        if sweep and str(one).partition("=")[0] in _SWEPT and "=" in str(one) and not Path(one).exists()
    ]
    return [one for one in inputs if one not in further], [*(sweep or []), *map(str, further)]


def parse_sweep(texts: Iterable[str], mode: str | None) -> list[dict[str, Any]]:
    """Each combination of the values, as settings of an edit; one empty one where there is no sweep.

    Args:
        mode: the edit's, where it is known; a setting of another mode would change nothing.

    Raises:
        UsageError: a name or a value that isn't known, or a setting of another mode.
    """
    values: dict[str, Sequence[Any]] = {}
    for text in " ".join(texts).split():
        name, _, listed = text.partition("=")
        if name not in _SWEPT or not listed:
            raise UsageError(
                f"a sweep reads NAME=VALUE,VALUE..., not {text!r}; names are {', '.join(_SWEPT)}"
            )
        setting = _SWEPT[name]
        values[setting.name] = [_value(setting, one) for one in listed.split(",")]
        if setting.modes and mode and "mode" not in values and mode not in setting.modes:
            modes = " or ".join(setting.modes)
            raise UsageError(f"{name} counts in mode {modes} only: add --mode {setting.modes[0]}")
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


def _value(setting: Setting, text: str) -> Any:
    if setting.kind is None:
        setting.check(text)
        return text
    try:
        return setting.kind(text)
    except ValueError as error:
        raise UsageError(f"{setting.name} takes numbers, not {text!r}") from error
