"""The two branches of an edit: the source regenerates the photo, the target changes it as the mode says."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from invrecon.core.denoiser import Denoiser
from invrecon.core.editing.attention import Attention, Heads, Memory, Site
from invrecon.core.sampling import OnStep
from invrecon.core.schedule import Schedule
from invrecon.core.transition import transitions


class Control(Protocol):
    """Output of a target's attention layer, given the source's same layer at the same step."""

    def steers(self, progress: float) -> bool:
        """Whether any layer is changed at this step; `progress` is k / T for step k of T, in [0, 1)."""
        ...

    def __call__(self, progress: float, site: Site, source: Heads, target: Heads) -> Tensor:
        """Heads of the source and of the target, (B, H, N, d), -> what the target gives, (B, H, N, d).

        Under guidance a branch has two items, of which the last sees the prompt; without, it has one.
        """
        ...


@dataclass(frozen=True)
class Mode:
    """How the target branch is tied to the source.

    Args:
        start: the part of the steps, in [0, 1], for which it is the source.
        control: of its attention afterwards; None leaves it alone.
    """

    start: float = 0.0
    control: Control | None = None


@dataclass(frozen=True)
class SourceBranch:
    """The branch that regenerates the photo.

    Args:
        trajectory: z_T to z_0, T + 1 latents (B, C, h, w). The last are those that `generate` gives.
    """

    denoiser: Denoiser
    schedule: Schedule
    trajectory: Sequence[Tensor]


@torch.no_grad()
def trace(
    denoiser: Denoiser, schedule: Schedule, seed: Tensor, on_step: OnStep | None = None
) -> SourceBranch:
    """The source branch of seed noise, (B, C, h, w)."""
    trajectory = [seed]
    for done, transition in enumerate(transitions(denoiser, schedule), 1):
        trajectory.append(transition.down(trajectory[-1]))
        if on_step:
            on_step(done, len(schedule))
    return SourceBranch(denoiser, schedule, trajectory)


@torch.no_grad()
def edit(
    source: SourceBranch,
    target: Denoiser,
    mode: Mode,
    attention: Attention,
    *,
    mask: Tensor | None = None,
    seed: Tensor | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """The target branch. In every mode, equal prompts give the source branch.

    Args:
        source: of which `trace` made a trajectory.
        target: a denoiser that shares the layers of `attention` with the source's.
        mask: (1, 1, h, w) in [0, 1]; after each step  z <- z_source + mask (z - z_source).
        seed: what the target starts from in place of the source's seed, where it starts with the first step.

    Returns:
        Edited image latents, (B, C, h, w).
    """
    schedule, trajectory = source.schedule, source.trajectory
    first = round(mode.start * len(schedule))
    latents = trajectory[first] if first or seed is None else seed
    sources = transitions(source.denoiser, schedule)
    for k, transition in list(enumerate(transitions(target, schedule)))[first:]:
        progress = k / len(schedule)
        if mode.control and mode.control.steers(progress):
            attention.watcher = memory = Memory()
            sources[k].denoiser(trajectory[k], transition.timestep)
            attention.watcher = partial(_steer, mode.control, progress, memory)
        latents = transition.down(latents)
        attention.watcher = None
        if mask is not None:
            latents = trajectory[k + 1] + mask * (latents - trajectory[k + 1])
        if on_step:
            on_step(k + 1, len(schedule))
    return latents


def _steer(control: Control, progress: float, memory: Memory, site: Site, heads: Heads) -> Tensor:
    return control(progress, site, memory.heads[site.name], heads)
