"""Inversion under guidance, and the largest guidance scale that something still holds at.

Guidance multiplies how strongly eps(z, t) depends on z. Beyond some w the equation of a step no longer contracts, or its seed no longer
leads back; where that is hangs on the photo, the prompt and the steps, so it has to be tried out.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from torch import Tensor

from invrecon.core.denoiser import Guided
from invrecon.core.lbo import Inversion, invert_batch
from invrecon.core.sampling import generate
from invrecon.core.schedule import Schedule


class Attempt(Protocol):
    """What came of one guidance scale."""

    @property
    def holds(self) -> bool:
        """Whether it is good enough."""
        ...


A = TypeVar("A", bound=Attempt)


def invert_guided(
    denoiser: Guided,
    schedule: Schedule,
    image_latents: Tensor,
    *,
    warm: Sequence[Inversion | None] = (),
    mean_evaluations: float = math.inf,
    **options: Any,
) -> list[Inversion]:
    """`invert_batch`; samples of which a step fails under guidance climb a ramp: they are inverted at w = 1, and from there at w.

    Of the two inversions the one that regenerates the image latents better is kept. Its records count the evaluations of all attempts,
    and those of the comparison. A budget of `mean_evaluations` leaves no room for a ramp.
    """
    own = options | {"precision": denoiser.rounding}
    found = invert_batch(
        denoiser, schedule, image_latents, warm=warm, mean_evaluations=mean_evaluations, **own
    )
    failed = [sample for sample, one in enumerate(found) if not _all_converged(one)]
    if denoiser.guidance_scale == 1 or not failed or math.isfinite(mean_evaluations):
        return found
    unguided = denoiser.at(1.0)
    foot = invert_batch(unguided, schedule, image_latents[failed], precision=unguided.rounding, **options)
    top = invert_batch(denoiser, schedule, image_latents[failed], warm=foot, **own)
    for sample, low, ramp in zip(failed, foot, top, strict=True):
        cold, image = found[sample], image_latents[sample : sample + 1]

        def miss(one: Inversion, image: Tensor = image) -> float:
            error = (generate(denoiser, schedule, one.latents) - image).norm().item()
            return error if math.isfinite(error) else math.inf

        best = min(cold, ramp, key=miss)
        attempts = zip(best.records, cold.records, low.records, ramp.records, strict=True)
        records = [
            replace(record, evaluations=2 + sum(step.evaluations for step in steps))
            for record, *steps in attempts
        ]
        found[sample] = replace(best, records=records)
    return found


def _all_converged(found: Inversion) -> bool:
    return all(record.outcome.solved for record in found.records)


def largest_guidance(
    attempt: Callable[[float, A | None], A], highest: float, resolution: float = 0.25
) -> tuple[float, list[A]]:
    """Finds the largest w in [1, `highest`] that holds, by bisection on multiples of `resolution`.

    Bisection takes it for granted that what fails at one w fails at all above it. Where that isn't so, w is one of several borders:
    it holds, and the next w above that was tried does not.

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
