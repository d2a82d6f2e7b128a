"""How much recovered noise resembles a key, beside what chance gives."""

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Resemblance:
    """Of noise z and a key k of d values each.

    Args:
        distance: ‖z − k‖ / sqrt(d).
        chance_distance: what it is for independent ones of these norms, sqrt(‖z‖² + ‖k‖²) / sqrt(d).
        correlation: z·k / (‖z‖ ‖k‖), in [-1, 1]; 0 ± 1 / sqrt(d) for independent Gaussian noise.
        chance: how often independent Gaussian noise correlates as much or more, either way, in [0, 1].
    """

    distance: float
    chance_distance: float
    correlation: float
    chance: float


def resemblance(noise: Tensor, key: Tensor) -> Resemblance:
    """Compares tensors of one shape, neither of which is zero throughout."""
    z, k = noise.double().flatten(), key.double().flatten()
    root = math.sqrt(len(z))
    correlation = (z @ k / (z.norm() * k.norm())).item()
    return Resemblance(
        distance=(z - k).norm().item() / root,
        chance_distance=math.hypot(z.norm().item(), k.norm().item()) / root,
        correlation=correlation,
        chance=math.erfc(abs(correlation) * root / math.sqrt(2)),
    )
