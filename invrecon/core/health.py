"""Whether noise looks like noise. A seed that left the Gaussian shell may reconstruct, but it doesn't
edit.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Health:
    """What a seed has in common with white Gaussian noise of d values; for such noise, in brackets.

    Args:
        norm: ‖z‖ / sqrt(d)  [1 ± 1 / sqrt(2 d)].
        autocorrelation: of values next to each other, down and across, mean over channels  [0 ± 1 / sqrt(2
            d)].
        normality: Kolmogorov-Smirnov distance of the standardized values from N(0, 1), in [0, 1]  [below 0.9
            / sqrt(d) in 19 of 20].
    """

    norm: float
    autocorrelation: float
    normality: float


def health(latents: Tensor) -> Health:
    """Looks at seed noise, (1, C, h, w)."""
    z = latents.double()
    neighbours = (z[..., 1:, :] * z[..., :-1, :]).mean() + (z[..., 1:] * z[..., :-1]).mean()
    ordered = ((z - z.mean()) / z.std()).flatten().sort().values
    below = 0.5 * (1 + torch.erf(ordered / math.sqrt(2)))
    ranks = torch.arange(len(ordered) + 1, dtype=z.dtype, device=z.device) / len(ordered)
    return Health(
        norm=z.square().mean().sqrt().item(),
        autocorrelation=(neighbours / 2 / z.square().mean()).item(),
        normality=torch.maximum((below - ranks[:-1]).abs(), (ranks[1:] - below).abs()).max().item(),
    )
