"""What a method of inversion is, and the walk up that those of track A share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from invrecon.core import sampling
from invrecon.core.denoiser import GuidedDenoiser
from invrecon.core.schedule import Schedule
from invrecon.core.transition import Transition, transitions


@dataclass(frozen=True)
class Stored:
    """What a method keeps of an image.

    Args:
        latents: the seed noise, (B, C, h, w).
        extras: tensors that regeneration needs besides; empty in track A.
    """

    latents: Tensor
    extras: dict[str, Tensor]


Invert = Callable[[GuidedDenoiser, Schedule, Tensor], Stored]
"""(eps, the sampler's steps, image latents (B, C, h, w)) -> what is kept."""

Generate = Callable[[GuidedDenoiser, Schedule, Stored], Tensor]
"""(eps, the sampler's steps, what was kept) -> image latents (B, C, h, w)."""

Step = Callable[[Transition, Tensor], Tensor]
"""(one step, z_s) -> z_t with Phi(z_t) = z_s, as well as the method can."""


@dataclass(frozen=True)
class Peer:
    """A method of inversion.

    Args:
        name: as in `PEERS`.
        track: "A", the seed alone and the plain sampler, or "B", extras or a sampler of its own.
        invert: from image latents to what is kept.
        generate: back again; in track A the plain `core.sampling.generate`.
        note: one sentence where the publication leaves a detail open and this is our reading of it, else "".
    """

    name: str
    track: Literal["A", "B"]
    invert: Invert
    generate: Generate
    note: str = ""


def plain_generate(guided: GuidedDenoiser, schedule: Schedule, stored: Stored) -> Tensor:
    """The unmodified sampler, from the seed noise alone."""
    return sampling.generate(guided, schedule, stored.latents)


def step_by_step(name: str, step: Step, note: str = "") -> Peer:
    """A peer of track A that solves one step after the other, from image to noise, and knows nothing but z_s
    at each.
    """

    @torch.no_grad()
    def invert(guided: GuidedDenoiser, schedule: Schedule, image_latents: Tensor) -> Stored:
        latents = image_latents
        for transition in reversed(transitions(guided, schedule)):
            latents = step(transition, latents)
        return Stored(latents, {})

    return Peer(name, "A", invert, plain_generate, note)


def is_finite(tensor: Tensor) -> bool:
    """Whether all of it is."""
    return bool(tensor.isfinite().all())
