"""Inverting a sampler that remembers: a step's memory comes from its noisier neighbour, which the way up meets last.

The equations of all steps are coupled,  z_{k+1} = A_k z_k + B_k e_k + C_k x_{k-1},  where x_{k-1} = P z_{k-1} + Q e_{k-1} is taken at
a z_{k-1} that isn't known yet. With its one-step kin (`Schedule.one_step`: x_k in place of x_{k-1}) a step reads

    z_{k+1} = (A_k + C_k P_k) z_k + (B_k + C_k Q_k) e_k + o_k,      o_k = C_k (x_{k-1} - x_k)

and o is small. So o is the unknown: an inversion of the kin with o held fixed gives a trajectory and thereby a new o, and where o
stands still the trajectory is the sampler's own, all steps at once. The derivation is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import torch
from torch import Tensor

from invrecon.core.schedule import Memory, Schedule
from invrecon.solve import Anderson, Read, Talk, solving

if TYPE_CHECKING:
    from invrecon.core.lbo import Inversion

P = ParamSpec("P")

MAX_SWEEPS = 15


def sweeping(climbing: Callable[P, Talk[Inversion]]) -> Callable[P, Talk[Inversion]]:
    """`climbing`, which solves step after step, made to invert schedules with a memory too."""

    @wraps(climbing)
    def run(*args: Any, **options: Any) -> Talk[Inversion]:
        denoiser, schedule, image_latents = args
        if schedule.memory is None:
            return climbing(*args, **options)
        return _sweep(climbing, denoiser, schedule, image_latents, schedule.memory, **options)

    return run


def _sweep(
    climbing: Callable[..., Talk[Inversion]],
    denoiser: Any,
    schedule: Schedule,
    image_latents: Tensor,
    memory: Memory,
    *,
    rtol: float = 1.8e-3,
    mean_evaluations: float = math.inf,
    precision: float = 0.0,
    warm: Inversion | None = None,
    **options: Any,
) -> Talk[Inversion]:
    """Sweeps until the offsets stand still to rtol / 2 in the regenerated latents; the other half is the solver's."""
    kin = schedule.one_step()
    levels = torch.tensor(schedule.levels, dtype=image_latents.dtype, device=image_latents.device).view(
        -1, 1, 1, 1, 1
    )
    found, best, lowest = warm, warm, math.inf
    spent = [0] * len(schedule)

    def sweep(scaled: Tensor) -> Talk[Tensor]:
        nonlocal found, best, lowest
        left = mean_evaluations - sum(spent) / len(schedule)
        offsets = scaled * levels
        options.update(
            rtol=rtol / 2, mean_evaluations=left, precision=precision, warm=found, offsets=list(offsets)
        )
        found = yield from climbing(denoiser, kin, image_latents, **options)
        spent[:] = [before + record.evaluations for before, record in zip(spent, found.records, strict=True)]
        following = told_offsets(kin, memory, found, offsets) / levels
        [miss] = yield Read((following - scaled).norm()[None])
        if miss < lowest:
            best, lowest = found, miss
        return following

    [size] = yield Read(image_latents.norm()[None])
    start = (
        told_offsets(schedule, memory, warm)
        if warm
        else image_latents.new_zeros(len(schedule), *image_latents.shape)
    )
    tolerance = rtol / 2 / len(schedule) ** 0.5
    anderson, scale = Anderson(5), size or 1.0
    done = yield from solving(
        sweep,
        start / levels,
        anderson,
        rtol=tolerance,
        scale=scale,
        max_iterations=MAX_SWEEPS,
        floor=precision,
    )
    assert best
    records = [replace(record, evaluations=count) for record, count in zip(best.records, spent, strict=True)]
    if not done.outcome.solved:
        records = [
            replace(record, outcome=done.outcome, residual=record.residual + done.residual)
            for record in records
        ]
    return replace(best, records=records)


def told_offsets(
    schedule: Schedule, memory: Memory, found: Inversion, offsets: Tensor | None = None
) -> Tensor:
    """o_k = C_k (x_{k-1} - x_k) along an inversion's trajectory, (T, B, C, h, w), from noise to image.

    The trajectory is rebuilt from the seed and `noises`, without the network.

    Args:
        schedule: the one-step kin with `offsets`, or the sampler's own without.
    """
    latents, told, before = found.latents, [], torch.zeros_like(found.latents)
    for k, noise in enumerate(reversed(found.noises)):
        predicted = memory.P[k] * latents + memory.Q[k] * noise
        told.append(memory.C[k] * (before - predicted))
        added = memory.C[k] * before if offsets is None else offsets[k]
        latents, before = schedule.A[k] * latents + schedule.B[k] * noise + added, predicted
    return torch.stack(told)
