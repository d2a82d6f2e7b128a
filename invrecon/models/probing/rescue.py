"""Half precision that is allowed to fail."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from invrecon.models.quiet import quiet

NETWORKS = ("transformer", "transformer_2", "unet", "controlnet")


def networks(pipeline: Any) -> list[torch.nn.Module]:
    """The parts that work at every step."""
    parts = [getattr(pipeline, name, None) for name in NETWORKS]
    return [part for part in parts if isinstance(part, torch.nn.Module)]


@contextmanager
def in_float32(modules: list[torch.nn.Module]) -> Iterator[None]:
    """Networks in float32 for the time of a `with` block, whatever they are given; every half is a float32,
    there and back again. Weights that are offloaded one by one can't be turned so, and stay as they are.
    """
    turned = [(m, next(m.parameters()).dtype) for m in modules if not next(m.parameters()).is_meta]
    with ExitStack() as stack, quiet():
        for module, dtype in turned:
            stack.callback(module.to, dtype)
            module.to(torch.float32)
            stack.callback(module.register_forward_pre_hook(_widen, with_kwargs=True).remove)
        yield


def _widen(_module: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    return _floats(args), _floats(kwargs)


def _floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _floats(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_floats, value))
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
