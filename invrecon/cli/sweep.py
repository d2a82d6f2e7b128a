"""`--sweep guidance=3,5,7.5 strength=0.4,0.6`: all combinations of some values."""

from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from invrecon.edit_settings import MODES, OWN, WORDS
from invrecon.errors import UsageError

_NAMES: dict[str, str] = {  # as users write them: settings of an edit
    "guidance": "guidance_scale",
    "guidance-scale": "guidance_scale",
    **{name.replace("_", "-"): name for name in ("mode", "words", "forget", "mask_threshold")},
    **{name.replace("_", "-"): name for names in OWN.values() for name in names if name != "weights"},
}
_WORDS = {"mode": MODES, "words": WORDS}


def part_sweeps(inputs: Sequence[Path], sweep: Sequence[str] | None) -> tuple[list[Path], list[str]]:
    """(inputs, sweeps), where further sweeps stand among the inputs, as in `--sweep guidance=3,5 strength=0.4,0.6`."""
    further = [
        one
        for one in inputs
        if sweep and str(one).partition("=")[0] in _NAMES and "=" in str(one) and not one.exists()
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
        if name not in _NAMES or not listed:
            raise UsageError(
                f"a sweep reads NAME=VALUE,VALUE..., not {text!r}; names are {', '.join(_NAMES)}"
            )
        setting = _NAMES[name]
        values[setting] = [_value(setting, one) for one in listed.split(",")]
        owner = next((known for known, names in OWN.items() if setting in names), None)
        if owner and mode and "mode" not in values and owner != mode:
            raise UsageError(f"{name} counts in mode {owner} only: add --mode {owner}")
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


def _value(setting: str, text: str) -> Any:
    if setting in _WORDS:
        if text not in _WORDS[setting]:
            raise UsageError(f"{setting} must be one of {', '.join(_WORDS[setting])}, not {text!r}")
        return text
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"{setting} takes numbers, not {text!r}") from error
