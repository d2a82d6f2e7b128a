"""Values as strict JSON can hold them."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def jsonable(value: Any, infinite: Callable[[float], Any] = lambda number: None) -> Any:
    """`value` with paths as text, tuples as lists, and None for NaN and infinity, which JSON lacks.

    Args:
        infinite: what stands for a number that isn't finite, in place of None.
    """
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {key: jsonable(item, infinite) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item, infinite) for item in value]
    if isinstance(value, Path):
        return str(value)
    return infinite(value) if isinstance(value, float) and not math.isfinite(value) else value
