"""Values as the report's page holds them."""

import math
from collections.abc import Mapping
from typing import Any


def shortened(value: Any) -> Any:
    """A value of JSON with its floats in six digits, None where they aren't finite."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: shortened(item) for key, item in value.items()}
    return [shortened(item) for item in value] if isinstance(value, list | tuple) else value
