"""Functions that are called again and again with the same arguments."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

LIMIT = 64  # calls that are remembered


Kept = dict[Any, tuple[Any, Any, Any]]


def memoised(function: Callable[..., Any], kept: Kept | None = None) -> Callable[..., Any]:
    """`function`, run once for the same arguments, without gradients. Tensors and other objects are the same
    while they are one object that wasn't written to; a result that its user wrote to is made anew; where an
    argument requires a gradient, the function runs as it is.

    Args:
        kept: the results, where several functions that do the same are to share them.
    """
    kept = {} if kept is None else kept

    @wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        if torch.is_grad_enabled() and _wants_gradient((args, options)):
            return function(*args, **options)
        key = _key((args, options))
        if key not in kept or _key(kept[key][0]) != kept[key][1]:
            if len(kept) >= LIMIT:
                kept.clear()
            with torch.no_grad():
                result = function(*args, **options)
            kept[key] = result, _key(result), (args, options)  # kept alive, so that no id is used twice
        return kept[key][0]

    return call


def _key(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value).__name__, *map(_key, value)
    if isinstance(value, dict):
        return "dict", *((name, _key(one)) for name, one in sorted(value.items()))
    if isinstance(value, Tensor):
        return id(value), 0 if value.is_inference() else value._version
    if isinstance(value, (str, int, float, bool, type(None), torch.device, torch.dtype)):
        return type(value).__name__, value
    return id(value)


def _wants_gradient(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return any(map(_wants_gradient, value))
    return isinstance(value, Tensor) and value.requires_grad
