"""The sampler's grid and coefficients, as numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True)
class MultistepMemory:
    """What a multistep sampler (DPM-Solver++ 2M, arXiv:2211.01095) keeps of the step before: its prediction
    of the data,

        x_k = P_k z_k + Q_k e_k,      to which step k + 1 adds  C_{k+1} x_k

    Args:
        C: T factors of what the step before predicted; 0 where a step is of first order, as the first always
            is.
        P, Q: T factors of latents and network prediction.
    """

    C: Sequence[float]
    P: Sequence[float]
    Q: Sequence[float]

    def offset(self, k: int, latents: Tensor, noise: Tensor) -> Tensor | float:
        """C_{k+1} x_k, which step k leaves to the next; zero after the last."""
        weight = self.C[k + 1] if k + 1 < len(self.C) else 0.0
        return weight * (self.P[k] * latents + self.Q[k] * noise) if weight else 0.0


@dataclass(frozen=True)
class Schedule:
    """A deterministic sampler's steps, from noise (step 0) to image (step T - 1).

    Step k takes the latents from timestep t_k to the next level by

        Phi_k(z) = A_k z + B_k e(c_k z, t_k)  [+ C_k x_{k-1}, see `MultistepMemory`]

    where e is what the denoiser returns, whatever it predicts. Two examples, with a = sqrt(abar), s = sqrt(1
    - abar) at the ends: DDIM in epsilon form (arXiv:2010.02502, formula 12, eta 0) has A = a_s / a_t, B = s_s
    - A s_t; flow matching with Euler steps has A = 1, B = sigma_s - sigma_t.

    Args:
        timesteps: t_0 >= t_1 >= ... >= t_{T-1}, what the network is given at each step.
        A: T factors of the latents, positive.
        B: T factors of the network's prediction.
        scales: T factors c_k of what the network sees; 1 where left out.
        signal: a / sqrt(a² + s²) at the lower end of each step over that of the image, in (0, 1]. The lower
            it is, the more an error there grows on the way down. Where left out it follows from A, which is
            right in epsilon form.
        memory: of a multistep sampler.
    """

    timesteps: Sequence[float]
    A: Sequence[float]
    B: Sequence[float]
    scales: Sequence[float] = ()
    signal: Sequence[float] = ()
    memory: MultistepMemory | None = None

    def __post_init__(self) -> None:
        if min(self.A, default=1) <= 0:
            raise ValueError("a step with A <= 0 can't be inverted")
        object.__setattr__(self, "scales", self.scales or [1.0] * len(self.A))
        object.__setattr__(self, "signal", self.signal or _signal(self.A))
        if not len(self.timesteps) == len(self.A) == len(self.B) == len(self.scales) == len(self.signal) > 0:
            raise ValueError("a schedule needs as many coefficients as timesteps, and at least one")

    def __len__(self) -> int:
        return len(self.timesteps)

    @property
    def times(self) -> list[float]:
        """The noise level s at the upper end of each step, as a clock:  s_t = (s_s - B) / A,  0 at the image.

        It falls strictly, even where a grid is rounded to some timestep twice, and along a trajectory the
        network's predictions are closer to a line in s than in t.
        """
        levels = [0.0]
        for A, B in zip(reversed(self.A), reversed(self.B), strict=True):
            levels.append((levels[-1] - B) / A)
        return levels[:0:-1]

    @property
    def effects(self) -> list[float]:
        """What each step's prediction adds to the image, later predictions kept:  B_k A_{k+1} ... A_{T-1}."""
        effects, factor = [], 1.0
        for A, B in zip(reversed(self.A), reversed(self.B), strict=True):
            effects.append(B * factor)
            factor *= A
        return effects[::-1]

    def one_step(self) -> "Schedule":
        """The same grid without memory: the step before is taken to have predicted what this one does,
        x_{k-1} = x_k.
        """
        if self.memory is None:
            return self
        A = [a + c * p for a, c, p in zip(self.A, self.memory.C, self.memory.P, strict=True)]
        B = [b + c * q for b, c, q in zip(self.B, self.memory.C, self.memory.Q, strict=True)]
        return replace(self, A=A, B=B, memory=None)


def _signal(A: Sequence[float]) -> list[float]:
    """a_s / a_0 at the lower end of each step:  the product of 1 / A over all later steps."""
    signal = [1.0]
    for factor in reversed(A[1:]):
        signal.append(signal[-1] / factor)
    return signal[::-1]
