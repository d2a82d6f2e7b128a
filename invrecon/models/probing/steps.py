"""The steps of any scheduler as numbers, after it was seen that numbers tell all of them."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from invrecon.core.schedule import Schedule
from invrecon.errors import ModelError
from invrecon.models.grid import schedule_of, walk

INSTEAD = {
    "FlowMatchLCMScheduler": "FlowMatchEulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler": "EulerDiscreteScheduler",
}
VALUES = 16


def read_steps(scheduler: Any, options: Mapping[str, Any]) -> Schedule:
    """The schedule of a scheduler whose `set_timesteps` was called, and that has not stepped yet.

    Args:
        options: what the pipeline gives to `step` besides prediction, timestep and latents.

    Raises:
        ModelError: a step draws noise, isn't linear in latents and prediction, or remembers more than the step before it.
    """
    kind, options = (
        type(scheduler).__name__,
        {name: value for name, value in options.items() if name != "generator"},
    )
    device = scheduler.timesteps.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            first, again = (_random_walk(scheduler, options, seed) for seed in (0, 1))
            rows, _ = walk(copy.deepcopy(scheduler), dict(options))
        except (
            ValueError,
            TypeError,
            AttributeError,
            IndexError,
            ImportError,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise ModelError(f"{kind} can't be inverted ({_line(error)}): {_cure(scheduler)}") from error
    if not all(torch.equal(one, other) for one, other in zip(first, again, strict=True)):
        told = ", ".join(
            f"{name} {value}" for name, value in options.items() if isinstance(value, float) and value
        )
        raise ModelError(
            f"{kind} adds noise at every step{told and f' ({told})'} and can't be inverted: "
            + (f"leave out {told.split()[0]}, or " if told else "")
            + _cure(scheduler)
        )
    inputs = _inputs(len(rows))
    for k, row in enumerate(rows):
        known = torch.stack([first[k], inputs[k + 1], *((first[k - 1], inputs[k]) if k else inputs[:2] * 0)])
        told = torch.tensor(row[:4], dtype=torch.float64) @ known
        if not (told - first[k + 1]).norm() <= 1e-4 * first[k + 1].norm():
            raise ModelError(
                f"{kind}'s steps can't be inverted: they aren't linear (clipping, thresholding), or remember more than "
                f"the step before: {_cure(scheduler)}"
            )
    return schedule_of(copy.deepcopy(scheduler), **options)


def input_scales(scheduler: Any) -> list[float]:
    """c of each step: the network sees c x."""
    if not hasattr(scheduler, "scale_model_input"):
        return [1.0] * len(scheduler.timesteps)
    one, scheduler = torch.ones(1, dtype=torch.float64), copy.deepcopy(scheduler)
    scales = []
    for k, t in enumerate(scheduler.timesteps):
        if hasattr(scheduler, "_step_index"):
            scheduler._step_index = k
        scales.append(float(scheduler.scale_model_input(one, t)))
    return scales


def _inputs(steps: int) -> Tensor:
    """x_0, and u of every step."""
    return torch.randn(steps + 1, VALUES, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def _random_walk(scheduler: Any, options: Mapping[str, Any], seed: int) -> list[Tensor]:
    scheduler, (latents, *predictions) = copy.deepcopy(scheduler), _inputs(len(scheduler.timesteps))
    torch.manual_seed(seed)
    visited = [latents]
    for t, prediction in zip(scheduler.timesteps, predictions, strict=True):
        shape = (1, VALUES // 4, 2, 2)
        latents = scheduler.step(
            prediction.view(shape), t, latents.view(shape), return_dict=False, **options
        )[0].flatten()
        visited.append(latents.double())
    return visited


def _cure(scheduler: Any) -> str:
    default = "DDIMScheduler" if hasattr(scheduler, "alphas_cumprod") else "FlowMatchEulerDiscreteScheduler"
    name = INSTEAD.get(type(scheduler).__name__, default)
    return f"use {name}: pipe.scheduler = {name}.from_config(pipe.scheduler.config)"


def _line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
