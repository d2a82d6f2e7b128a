"""The loop that every method shares."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]


class Outcome(str, Enum):
    """How a solve ended; the text is advice for a person."""

    CONVERGED = "converged"
    MAX_ITERATIONS = "ran out of iterations: raise the budget or rtol"
    DIVERGED = "does not contract: lower the guidance scale, take more steps, or try another solver"


class Method(Protocol):
    """What to try next. `start` is called once a solve, so that a method may be used again."""

    def start(self, x: Tensor) -> None:
        """Forgets the state of the last solve."""
        ...

    def step(self, fn: Function, x: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluates f at x, once; returns f(x) and the next x."""
        ...


@dataclass(frozen=True)
class Solution:
    """Where a solve ended.

    Args:
        x: the best x known.
        residual: ‖f(x) - x‖ / scale; where `checked` is False, a bound from the rate at which it fell.
        checked: whether f was evaluated at this very x.
        iterations: evaluations of f.
        rate: the last factor by which the residual fell, in (0, 1]; 1 if not known.
    """

    x: Tensor
    residual: float
    checked: bool
    iterations: int
    rate: float
    outcome: Outcome


def solve(
    fn: Function, x: Tensor, method: Method, *, rtol: float, scale: float, max_iterations: int, rate: float = 1.0, patience: int = 4
) -> Solution:
    """Finds x with ‖f(x) - x‖ < rtol * scale.

    After an evaluation at x the method's next point is not evaluated when its residual can be foretold: the
    residual falls by `rate` an iteration (the larger of the last two seen, or the caller's guess from a similar
    problem), so that a residual r at x promises rate * r at the next point.

    Args:
        fn: f.
        x: where to start.
        method: see `Method`.
        rtol: relative tolerance, > 0.
        scale: norm that makes the residual dimensionless, > 0.
        max_iterations: evaluations of f, >= 1.
        rate: guess of the residual's fall per iteration in (0, 1]; 1 asks for a checked solution.
        patience: iterations without a new best after which it is called diverged.

    Returns:
        The best iterate; its x is finite if the start is.
    """
    method.start(x)
    best, best_residual, previous, idle, seen_rate = x, math.inf, math.inf, 0, rate
    for iteration in range(1, max_iterations + 1):
        fx, proposal = method.step(fn, x)
        residual = (torch.linalg.vector_norm(fx - x) / scale).item()
        if not math.isfinite(residual):
            return Solution(best, best_residual, best_residual < math.inf, iteration, 1.0, Outcome.DIVERGED)
        if iteration > 1:
            seen_rate = min(1.0, residual / max(previous, 1e-30))
            rate = max(rate, seen_rate) if iteration == 2 else seen_rate
        if residual < best_residual:
            best, best_residual, idle = x, residual, 0
        else:
            idle += 1
        if residual < rtol:
            return Solution(x, residual, True, iteration, seen_rate, Outcome.CONVERGED)
        if rate * residual < rtol and residual == best_residual and bool(proposal.isfinite().all()):
            return Solution(proposal, rate * residual, False, iteration, seen_rate, Outcome.CONVERGED)
        if idle >= patience:
            return Solution(best, best_residual, True, iteration, 1.0, Outcome.DIVERGED)
        previous, x = residual, proposal
    return Solution(best, best_residual, True, max_iterations, seen_rate, Outcome.MAX_ITERATIONS)
