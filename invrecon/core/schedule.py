"""The sampler's grid and coefficients, as numbers."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """A deterministic sampler's steps, from noise (step 0) to image (step T - 1).

    Step k takes the latents from timestep t_k to the next level by

        Phi_k(z) = A_k z + B_k eps(z, t_k),      A = a_s / a_t,   B = s_s - A s_t

    with a = sqrt(abar), s = sqrt(1 - abar) at the step's two ends (DDIM, arXiv:2010.02502, formula 12, eta 0).

    Args:
        timesteps: t_0 > t_1 > ... > t_{T-1}, what the network is told at each step.
        A: T factors of the latents, positive.
        B: T factors of the noise prediction.
    """

    timesteps: Sequence[int]
    A: Sequence[float]
    B: Sequence[float]

    def __post_init__(self) -> None:
        if not len(self.timesteps) == len(self.A) == len(self.B) > 0:
            raise ValueError("a schedule needs as many coefficients as timesteps, and at least one")
        if min(self.A) <= 0:
            raise ValueError("a step with A <= 0 can't be inverted")

    def __len__(self) -> int:
        return len(self.timesteps)
