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
        total = torch.zeros_like(self._values[0][1]) if self._values else torch.zeros(())
        for i, (t_i, value) in enumerate(self._values):
            weight = 1.0
            for j, (t_j, _) in enumerate(self._values):
                if i != j:
                    weight *= (t - t_j) / (t_i - t_j)
            total += weight * value
        return total
