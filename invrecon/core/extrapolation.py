"""Foretelling the next noise prediction from those before it: along a trajectory it changes little."""

from collections import deque

import torch
from torch import Tensor


class Extrapolation:
    """Polynomial through the last values (Lagrange):  e(t) = Σ_i e_i Π_{j≠i} (t - t_j) / (t_i - t_j).

    Args:
        order: degree of the polynomial, as far as there are values.
    """

    def __init__(self, order: int = 1) -> None:
        self._values: deque[tuple[float, Tensor]] = deque(maxlen=order + 1)

    def __bool__(self) -> bool:
        return bool(self._values)

    def append(self, t: float, value: Tensor) -> None:
        """Adds the value at t, which must differ from those before."""
        self._values.append((t, value))

    def predict(self, t: float) -> Tensor:
        """The polynomial's value at t; zero where there are no values yet."""
        return self._on_polynomial(t)

    def _on_polynomial(self, t: float) -> Tensor:
        total = torch.zeros_like(self._values[0][1]) if self._values else torch.zeros(())
        for i, (t_i, value) in enumerate(self._values):
            weight = 1.0
            for j, (t_j, _) in enumerate(self._values):
                if i != j:
                    weight *= (t - t_j) / (t_i - t_j)
            total += weight * value
        return total


class Cautious(Extrapolation):
    """Half of what the line through the last two values promises, and less where it promised too much before:

        e(t) = e_k + θ/2 (e_k - e_{k-1}) (t - t_k) / (t_k - t_{k-1})

    where θ, in [0, 1], is by how much of the line's last promise the values moved, a number for each sample.
    For values that are not to be trusted, as when each was corrected once only under strong guidance.
    """

    def __init__(self) -> None:
        super().__init__(order=1)
        self._share: Tensor | float = 1.0

    def append(self, t: float, value: Tensor) -> None:
        """Adds the value at t, which must differ from those before."""
        if len(self._values) == 2:
            last = self._values[-1][1]
            moved, promised = (value - last).flatten(1), (self._on_polynomial(t) - last).flatten(1)
            share = (moved * promised).sum(1) / promised.square().sum(1).clamp(min=1e-30)
            self._share = share.clamp(0, 1).view(-1, *(1,) * (value.ndim - 1))
        super().append(t, value)

    def predict(self, t: float) -> Tensor:
        """e(t); zero where there are no values yet."""
        if not self._values:
            return self._on_polynomial(t)
        last = self._values[-1][1]
        return last + self._share / 2 * (self._on_polynomial(t) - last)
