"""The steps of any scheduler as numbers, after it was seen that numbers tell all of them."""

import copy
from collections.abc import Mapping
from typing import Any

import diffusers
import torch
from torch import Tensor

from invrecon.core.schedule import Schedule
from invrecon.errors import ModelError
from invrecon.models.grid import schedule_of, walk
from invrecon.models.probing.runner import first_line
from invrecon.models.quiet import quiet
from invrecon.models.samplers import FLOW, KINDS, NOISE_SCHEDULE, converted

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
        ModelError: a step draws noise, isn't linear in latents and prediction, or remembers more than the
            step before it.
    """
    kind, given = type(scheduler).__name__, {k: v for k, v in options.items() if k != "generator"}
    device = scheduler.timesteps.device
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            first, second = (_random_walk(scheduler, given, seed) for seed in (0, 1))
            if not torch.allclose(first, second, rtol=0, atol=0, equal_nan=True):
                raise ModelError(_noisy(scheduler, given))
            rows, _ = walk(copy.deepcopy(scheduler), given)
            if first.isfinite().all() and not _tells(rows, first):
                why = "they aren't linear (clipping, thresholding), or remember more than the step before"
                raise ModelError(f"{kind}'s steps can't be inverted: {why}: {_cure(scheduler)}")
            return schedule_of(copy.deepcopy(scheduler), **given)
    except ModelError as error:
        if kind in KINDS or "pipe.scheduler" in str(error):
            raise
        raise ModelError(f"{error}; or {_cure(scheduler)}") from error
    except (ValueError, TypeError, AttributeError, IndexError, ImportError, RuntimeError) as error:
        count, more = len(scheduler.timesteps), "" if kind in KINDS else f", or {_cure(scheduler)}"
        raise ModelError(
            f"{kind} can't take {count} steps ({first_line(error)}): take another number of them{more}"
        ) from error


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


def _random_walk(scheduler: Any, options: Mapping[str, Any], seed: int) -> Tensor:
    """(T + 1, VALUES): latents from random ones, under random predictions; `seed` is that of the noise that
    `step` may draw."""
    scheduler, (latents, *predictions) = copy.deepcopy(scheduler), _inputs(len(scheduler.timesteps))
    torch.manual_seed(seed)
    shape, visited = (1, VALUES // 4, 2, 2), [latents]
    for t, prediction in zip(scheduler.timesteps, predictions, strict=True):
        step = scheduler.step(
            prediction.view(shape), t, visited[-1].view(shape), return_dict=False, **options
        )
        visited.append(step[0].flatten().double())
    return torch.stack(visited)


def _tells(rows: list[list[float]], visited: Tensor) -> bool:
    """Whether the coefficients of `walk` foretell a random walk."""
    inputs = _inputs(len(rows))
    for k, row in enumerate(rows):
        before = torch.stack((visited[k - 1], inputs[k])) if k else torch.zeros(2, VALUES)
        known = torch.cat((torch.stack((visited[k], inputs[k + 1])), before))
        foretold = torch.tensor(row[:4], dtype=torch.float64) @ known.double()
        if not (foretold - visited[k + 1]).norm() <= 1e-4 * visited[k + 1].norm():
            return False
    return True


def _noisy(scheduler: Any, options: Mapping[str, Any]) -> str:
    asked = [name for name, value in options.items() if isinstance(value, float) and value]
    told = "".join(f" ({name} {options[name]})" for name in asked)
    leave = "".join(f"leave out {name}, or " for name in asked)
    kind = type(scheduler).__name__
    return f"{kind} adds noise at every step{told} and can't be inverted: {leave}{_cure(scheduler)}"


def _cure(scheduler: Any) -> str:
    """A scheduler of the same noise schedule to use instead."""
    kind, flow = type(scheduler).__name__, "FlowMatchEulerDiscreteScheduler"
    name = INSTEAD.get(kind, flow if kind in FLOW else "DDIMScheduler")
    if kind == name:
        return "set its configuration right"
    changes = ""
    if kind not in FLOW:
        instead = getattr(diffusers, name)
        try:
            same = converted(instead, scheduler).config
        except ModelError:
            return "name a pipeline with another scheduler"
        with quiet():
            plain = instead.from_config(scheduler.config).config
        changes = "".join(
            f", {key}={same[key]!r}" for key in NOISE_SCHEDULE if same.get(key) != plain.get(key)
        )
    return f"use {name}: pipe.scheduler = {name}.from_config(pipe.scheduler.config{changes})"
