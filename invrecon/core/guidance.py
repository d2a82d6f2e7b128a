"""The largest guidance scale that something still holds at.

Guidance multiplies how strongly eps(z, t) depends on z. Beyond some w the equation of a step no longer
contracts, or its seed no longer leads back. That w depends on the photo, the prompt and the steps, so it has
to be tried out.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar


class Attempt(Protocol):
    """The result at one guidance scale."""

    @property
    def holds(self) -> bool:
        """Whether it is good enough."""
        ...


A = TypeVar("A", bound=Attempt)


def largest_guidance(
    attempt: Callable[[float, A | None], A], highest: float, resolution: float = 0.25, lowest: float = 1.0
) -> tuple[float, list[A]]:
    """Finds the largest w in [`lowest`, `highest`] that holds, by bisection on multiples of `resolution`.

    Bisection assumes that what fails at one w fails at every w above it. Where that isn't so, w is one of
    several borders: it holds, and the next w above that was tried does not.

    Args:
        attempt: tries w; it is given the attempt at the largest smaller w that held, to start from.
        highest: the first to be tried after `lowest`.
        resolution: w is known to this; 1 / `resolution` is a whole number.
        lowest: which means no guidance, a whole number.

    Returns:
        w, which is `lowest` where not even that holds, and all attempts by their w, smallest first.
    """
    tried = {lowest: attempt(lowest, None)}
    low, high = lowest, highest
    scale = highest if tried[low].holds else low
    while scale not in tried:
        tried[scale] = attempt(scale, tried[low])
        low, high = (scale, high) if tried[scale].holds else (low, scale)
        if high - low > resolution:
            scale = resolution * round((low + high) / 2 / resolution)
    return low, [tried[w] for w in sorted(tried)]
