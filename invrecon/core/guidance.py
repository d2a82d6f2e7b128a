"""Inversion under guidance, and the largest guidance scale that something still holds at.

Guidance multiplies how strongly eps(z, t) depends on z. Beyond some w the equation of a step no longer
contracts, or its seed no longer leads back. That w depends on the photo, the prompt and the steps, so it has
to be tried out.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from invrecon.core import multistep
from invrecon.core.denoiser import Guided
from invrecon.core.lbo import Inversion
from invrecon.core.sampling import OnStep, generate
from invrecon.core.schedule import Schedule
from invrecon.settings import Effort


class Attempt(Protocol):
    """The result at one guidance scale."""

    @property
    def holds(self) -> bool:
        """Whether it is good enough."""
        ...


A = TypeVar("A", bound=Attempt)


def invert_guided(
    denoiser: Guided,
    schedule: Schedule,
    image_latents: Tensor,
    effort: Effort = Effort(),
    *,
    warm: Sequence[Inversion | None] = (),
    on_step: OnStep | None = None,
) -> list[Inversion]:
    """`multistep.invert`; samples of which a step fails under guidance are inverted at w = 1, and from there
    at w.

    Of the two inversions the one that regenerates the image latents better is kept. Its records count the
    evaluations of all attempts, and those of the comparison. With a budget of `mean_evaluations` there is no
    second attempt.
    """

    def invert(guided: Guided, z_0: Tensor, warm: Sequence[Inversion | None]) -> list[Inversion]:
        return multistep.invert(
            guided, schedule, z_0, effort, warm=warm, precision=guided.rounding, on_step=on_step
        )

    inversions = invert(denoiser, image_latents, warm)
    failed = [sample for sample, one in enumerate(inversions) if one.solved < len(one.records)]
    if denoiser.guidance_scale == 1 or not failed or math.isfinite(effort.mean_evaluations):
        return inversions
    hard = image_latents[failed]
    unguided = invert(denoiser.at(1.0), hard, ())
    again = invert(denoiser, hard, unguided)
    cold = [inversions[sample] for sample in failed]
    errors = [_errors(denoiser, schedule, attempt, hard) for attempt in (cold, again)]
    for k, sample in enumerate(failed):
        best = again[k] if errors[1][k] < errors[0][k] else cold[k]
        attempts = zip(best.records, cold[k].records, unguided[k].records, again[k].records, strict=True)
        records = [
            replace(record, evaluations=2 + sum(step.evaluations for step in steps))
            for record, *steps in attempts
        ]
        inversions[sample] = replace(best, records=records)
    return inversions


def _errors(
    denoiser: Guided, schedule: Schedule, inversions: Sequence[Inversion], image_latents: Tensor
) -> list[float]:
    """‖generate(z_T) - z_0‖ of each sample, infinite where it isn't finite."""
    regenerated = generate(denoiser, schedule, torch.cat([one.latents for one in inversions]))
    errors = (regenerated - image_latents).flatten(1).norm(dim=1).tolist()
    return [error if math.isfinite(error) else math.inf for error in errors]


def largest_guidance(
    attempt: Callable[[float, A | None], A], highest: float, resolution: float = 0.25
) -> tuple[float, list[A]]:
    """Finds the largest w in [1, `highest`] that holds, by bisection on multiples of `resolution`.

    Bisection assumes that what fails at one w fails at every w above it. Where that isn't so, w is one of
    several borders: it holds, and the next w above that was tried does not.

    Args:
        attempt: tries w; it is given the attempt at the largest smaller w that held, to start from.
        highest: the first to be tried after 1.
        resolution: w is known to this; 1 / `resolution` is a whole number.

    Returns:
        w, which is 1 where not even that holds, and all attempts by their w, smallest first.
    """
    tried = {1.0: attempt(1.0, None)}
    low, high = 1.0, highest
    scale = highest if tried[low].holds else low
    while scale not in tried:
        tried[scale] = attempt(scale, tried[low])
        low, high = (scale, high) if tried[scale].holds else (low, scale)
        if high - low > resolution:
            scale = resolution * round((low + high) / 2 / resolution)
    return low, [tried[w] for w in sorted(tried)]
