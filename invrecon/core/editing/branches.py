"""The two branches of an edit: the source regenerates the photo, the target changes it as the mode says."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from invrecon.core.denoiser import Denoiser
from invrecon.core.editing.attention import Site
from invrecon.core.sampling import OnStep
from invrecon.core.schedule import Schedule
from invrecon.core.transition import transitions


class Watched(Protocol):
    """Layers of a denoiser that all go through `watcher` while there is one: `Attention`, or projections."""

    watcher: Any


class Memory(Protocol):
    """A watcher of the source that changes nothing and remembers what it saw."""

    def __call__(self, site: Site, seen: Any, /) -> Tensor: ...

    def recall(self, site: Site) -> Any:
        """What the source showed at the place where the target is."""
        ...

    def finish(self) -> None:
        """Called when a step of the target is done; raises where source and target didn't match."""
        ...


class Control(Protocol):
    """Output of a target's layer, given the source's same layer at the same step."""

    def remember(self) -> Memory:
        """An empty memory of what it compares."""
        ...

    def steers(self, progress: float) -> bool:
        """Whether any layer is changed at this step; `progress` is k / T for step k of T, in [0, 1)."""
        ...

    def __call__(self, progress: float, site: Site, source: Any, target: Any) -> Tensor:
        """What the layer of the target gives, of what the source's and the target's have: `Heads` of
        attention, (B, H, N, d), or the projections of one sample's tokens, (n, D).

        Under guidance heads have two items, of which the last sees the prompt; without, one.
        """
        ...


@dataclass(frozen=True)
class Mode:
    """How the target branch is tied to the source.

    Args:
        start: the part of the steps, in [0, 1], for which it is the source.
        control: of its layers afterwards; None leaves them alone.
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
    watched: Watched,
    *,
    mask: Tensor | None = None,
    seed: Tensor | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """The target branch. In every mode, equal prompts give the source branch.

    Args:
        source: of which `trace` made a trajectory.
        target: a denoiser that shares the `watched` layers with the source's.
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
        progress, memory = k / len(schedule), None
        if mode.control and mode.control.steers(progress):
            watched.watcher = memory = mode.control.remember()
            sources[k].denoiser(trajectory[k], transition.timestep)
            watched.watcher = partial(_steer, mode.control, progress, memory)
        latents = transition.down(latents)
        watched.watcher = None
        if memory:
            memory.finish()
        if mask is not None:
            latents = trajectory[k + 1] + mask * (latents - trajectory[k + 1])
        if on_step:
            on_step(k + 1, len(schedule))
    return latents


def _steer(control: Control, progress: float, memory: Memory, site: Site, target: Any) -> Tensor:
    return control(progress, site, memory.recall(site), target)
