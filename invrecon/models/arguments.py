"""A call's arguments as a seed file's header notes them."""

import hashlib
import json
import math
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor


def noted(value: Any) -> Any:
    """An argument as JSON: numbers and texts as they are, tensors, arrays and pictures as the SHA-256 of
    their shape, type and values."""
    if isinstance(value, bool | int | str | None):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, list | tuple):
        return [noted(each) for each in value]
    if isinstance(value, dict):
        return {str(name): noted(each) for name, each in sorted(value.items())}
    if isinstance(value, torch.Generator):
        value = value.get_state()
    if isinstance(value, Tensor):
        return {"sha256": tensor_hash(value)}
    if isinstance(value, Image | np.ndarray):
        kind = value.mode if isinstance(value, Image) else ""
        array = np.ascontiguousarray(value)
        return {"sha256": _sha256([kind, list(array.shape), str(array.dtype)], array.tobytes())}
    return type(value).__name__


def tensor_hash(tensor: Tensor) -> str:
    """SHA-256 of a tensor's shape, dtype and values."""
    values = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return _sha256([list(tensor.shape), str(tensor.dtype)], values)


def _sha256(kind: list[Any], values: Any) -> str:
    digest = hashlib.sha256(json.dumps(kind).encode())
    digest.update(values)
    return digest.hexdigest()
