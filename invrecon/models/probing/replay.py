"""Networks that give again what they gave before, while only the way of the latents around them is of
interest."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from invrecon.models.probing.rescue import NETWORKS


@contextmanager
def replayed(pipeline: Any) -> Iterator[None]:
    """The first call of a pipeline in the `with` block runs its networks; the others, under arguments of the
    same shapes, are given the outputs of the first, which takes no time.

    Args:
        pipeline: a runner's copy; its parts are put back at the end.
    """
    own = {name: part for name, part in vars(pipeline).items() if name in NETWORKS and callable(part)}
    vars(pipeline).update({name: _replaying(part) for name, part in own.items()})
    try:
        yield
    finally:
        vars(pipeline).update(own)


def _replaying(network: Any) -> Any:
    """A copy that shares its weights, and remembers its output for arguments of each shape."""
    kept: dict[Any, Any] = {}

    def call(*args: Any, **options: Any) -> Any:
        key = _shapes((args, options))
        if key not in kept:
            kept[key] = network(*args, **options)
        return kept[key]

    return called_otherwise(network, call)


def called_otherwise(part: Any, call: Callable[..., Any]) -> Any:
    """A copy that shares all it has, and answers a call by `call`."""
    copied, kind = copy.copy(part), type(part)
    copied.__class__ = type(kind.__name__, (kind,), {"__call__": staticmethod(call)})
    return copied


def _shapes(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple((name, _shapes(one)) for name, one in sorted(value.items()))
    if isinstance(value, (list, tuple)):
        return tuple(map(_shapes, value))
    return tuple(value.shape) if hasattr(value, "shape") else None
