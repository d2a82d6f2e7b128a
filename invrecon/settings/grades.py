"""Grades of effort: each sets steps, passes and tolerances together."""

from collections.abc import Mapping
from functools import wraps
from typing import Any, TypeVar

T = TypeVar("T")

EFFORTS: Mapping[str, Mapping[str, Any]] = {
    "quick": {
        "num_inference_steps": 25,
        "mean_evaluations": 1.0,
        "rtol": 1.8e-3,
        "decoder_steps": 10,
    },
    "standard": {
        "num_inference_steps": 50,
        "mean_evaluations": float("inf"),
        "rtol": 1.8e-3,
        "decoder_steps": 60,
    },
    "best": {
        "num_inference_steps": 50,
        "mean_evaluations": float("inf"),
        "rtol": 2e-4,
        "decoder_steps": 160,
    },
}
"""What each grade sets, by the names of settings; "standard" is their defaults."""


def graded(group: type[T]) -> type[T]:
    """Lets `effort` set what isn't given when settings are made: `Settings(effort="quick", size=128)`."""
    make = group.__init__

    @wraps(make)
    def init(self: T, *given: Any, **named: Any) -> None:
        make(self, *given, **{**EFFORTS.get(named.get("effort", ""), {}), **named})

    group.__init__ = init  # type: ignore[assignment, method-assign]
    return group
