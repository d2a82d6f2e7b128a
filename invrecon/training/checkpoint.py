"""Training state in one safetensors file: models, their averages, optimisers and the time spent."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

ModelT = TypeVar("ModelT", bound=nn.Module)
Tensors = tuple[Tensor, ...] | list[Tensor]


def averaged(model: nn.Module, decay: float = 0.999) -> AveragedModel:
    """Exponential moving average of a model's weights; over a tenth of the steps so far, at the beginning."""

    def average(averages: Tensors, weights: Tensors, steps: Tensor | int) -> None:
        torch._foreach_lerp_(averages, weights, max(1 - decay, 9 / (10 + int(steps))))

    return AveragedModel(model, multi_avg_fn=torch.no_grad()(average))


def names(file: Any) -> list[str]:
    """The tensors of an open safetensors file, which is no mapping."""
    return list(file.keys())


def save(
    path: Path,
    step: int,
    seconds: float,
    models: Mapping[str, nn.Module],
    optimizers: Mapping[str, Optimizer],
) -> None:
    """Writes beside `path`, then renames, so that a killed run never leaves half a file."""
    tensors: dict[str, Tensor] = {}
    for name, model in models.items():
        tensors |= {f"model.{name}.{key}": value.contiguous() for key, value in model.state_dict().items()}
    for name, optimizer in optimizers.items():
        for i, state in optimizer.state_dict()["state"].items():
            tensors |= {
                f"optimizer.{name}.{i}.{key}": torch.as_tensor(value).contiguous()
                for key, value in state.items()
            }
    tensors = {key: value.clone() for key, value in tensors.items()}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"step": str(step), "seconds": f"{seconds:.2f}"})
    os.replace(partial, path)


def load(
    path: Path, models: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer]
) -> tuple[int, float]:
    """Restores what `save` wrote and returns the step and the seconds; zeros where there is no checkpoint."""
    if not path.exists():
        return 0, 0.0
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in names(file)}
        step, seconds = int(file.metadata()["step"]), float(file.metadata()["seconds"])
    for name, model in models.items():
        prefix = f"model.{name}."
        model.load_state_dict(
            {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
        )
    for name, optimizer in optimizers.items():
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(f"optimizer.{name}."):
                i, field = key.split(".")[-2:]
                state.setdefault(int(i), {})[field] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return step, seconds


def placed(model: ModelT, device: torch.device) -> ModelT:
    """`model` on a device, its convolutions in channels-last layout."""
    return model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def load_average(path: Path, name: str, model: nn.Module) -> None:
    """Fills `model` with the averaged weights that a run kept under `name`, ready for use."""
    prefix = f"model.{name}.module."
    with safe_open(path, "pt") as file:
        model.load_state_dict(
            {key[len(prefix) :]: file.get_tensor(key) for key in names(file) if key.startswith(prefix)}
        )
    model.eval()
