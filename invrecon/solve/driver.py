"""The loop that every method shares."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import torch
from torch import Tensor

from invrecon.solve.talk import Read, Talk, converse, read

Function = Callable[[Tensor], Talk[Tensor]]
"""f, as a talk: what it asks on its way is for whoever answers the solve's own questions. It keeps the graph of x where x has one."""

Tolerance = Callable[[int], float]
"""Relative tolerance after so many evaluations of f."""

Limit = float | Tolerance
"""Of a residual: fixed, or one that depends on the evaluations taken."""


class Outcome(str, Enum):
    """How a solve ended; the text is advice for a person."""

    CONVERGED = "converged"
    ROUNDED = "as near as the rounding of the function lets it: compute in higher precision for more"
    MAX_ITERATIONS = "ran out of iterations: raise the budget or rtol"
    DIVERGED = "does not contract: lower the guidance scale, take more steps, or try another solver"

    @property
    def solved(self) -> bool:
        """Whether there is nothing left to be done."""
        return self in (Outcome.CONVERGED, Outcome.ROUNDED)


class Method(Protocol):
    """What to try next. `start` is called once a solve, so that a method may be used again."""

    def start(self, x: Tensor) -> None:
        """Forgets the state of the last solve."""
        ...

    def step(self, fn: Function, x: Tensor) -> Talk[tuple[Tensor, Tensor]]:
        """Evaluates f at x, once; returns f(x) and the next x."""
        ...


@dataclass(frozen=True)
class Solution:
    """Where a solve ended.

    Args:
        x: the best x known.
        residual: ‖f(x) - x‖ / scale; where `checked` is False, as foretold.
        checked: whether f was evaluated at this very x.
        iterations: evaluations of f.
        method: the name of what found it, where a strategy had several to choose from.
    """

    x: Tensor
    residual: float
    checked: bool
    iterations: int
    outcome: Outcome
    method: str = ""


class Foresight:
    """How the residual falls from one iteration to the next, as seen in earlier solves of a series.

    It saves the last evaluation of a solve, the one that would only confirm. What was seen grows stale: every use
    makes it a little more careful (`caution` > 1), until a solve checks for itself again. Falls below `floor` were luck.
    """

    def __init__(self, caution: float = 1.25, floor: float = 0.03) -> None:
        self.caution, self.floor = caution, floor
        self.falls: dict[int, float] = {}
        self.grain = 0.0
        """Where the residual stalled in an earlier solve, in parts of the floor; it grows stale too."""

    def promise(self, iteration: int, residual: float) -> float:
        """The residual expected at the point after this iteration; the residual itself where nothing is known."""
        return residual * self.falls.get(iteration, 1.0)

    def used(self, iteration: int) -> None:
        """Tells that a promise was relied upon unchecked."""
        self.falls[iteration] = min(1.0, self.caution * self.falls[iteration])

    def observe(self, iteration: int, fall: float) -> None:
        """Tells by what factor the residual fell after this iteration."""
        self.falls[iteration] = min(1.0, max(fall, self.floor))


def solve(fn: Callable[[Tensor], Tensor], x: Tensor, method: Method, **options: Any) -> Solution:
    """`solving` by itself, for an f that asks for nothing; `options` are the same."""

    def silent(x: Tensor) -> Talk[Tensor]:
        with torch.set_grad_enabled(x.requires_grad):
            return fn(x)
        yield

    with torch.no_grad():
        return converse([solving(silent, x, method, **options)], read)[0]


def solving(
    fn: Function,
    x: Tensor,
    method: Method,
    *,
    rtol: Limit,
    scale: float,
    max_iterations: int,
    foresight: Foresight | None = None,
    floor: Limit = 0.0,
    slack: float = 1.0,
    patience: int = 5,
) -> Talk[Solution]:
    """Finds x with ‖f(x) - x‖ < rtol * scale. Reads numbers once an iteration.

    Args:
        fn: f.
        x: where to start.
        method: see `Method`.
        rtol: relative tolerance.
        scale: norm that makes the residual dimensionless, > 0.
        max_iterations: evaluations of f, >= 1.
        foresight: shared by a series of similar problems; without it, every solution is checked.
        floor: relative residual that rounding in f may leave; one below it that stalls is the end.
        slack: where the residual falls by less than a factor of e an iteration, each digit is dear, and up to `slack` times
            the tolerance will do: 1 / sqrt(rate) times, which shares iterations best among the problems of a series.
        patience: iterations without a new best after which it is called diverged.

    Returns:
        The best iterate, finite if the start is. Where iterations run out while the residual falls, it is the next one, unchecked.
    """
    method.start(x)
    best, lowest, previous, idle, first = x, math.inf, math.inf, 0, math.inf
    for iteration in range(1, max_iterations + 1):
        fx, proposal = yield from method.step(fn, x)
        residual, finite = yield Read(
            torch.stack((torch.linalg.vector_norm(fx - x) / scale, proposal.isfinite().all().to(x.dtype)))
        )
        if not math.isfinite(residual):
            return Solution(best, lowest, lowest < math.inf, iteration, Outcome.DIVERGED)
        if foresight and iteration > 1:
            foresight.observe(iteration - 1, residual / max(previous, 1e-300))
        if residual < lowest:
            best, lowest, idle = x, residual, 0
        else:
            idle += 1
        first = residual if iteration == 1 else first
        tolerance = _now(rtol, iteration) * min(slack, _dearness(first, residual, iteration))
        if residual < tolerance:
            return Solution(x, residual, True, iteration, Outcome.CONVERGED)
        if foresight and (promised := foresight.promise(iteration, residual)) < tolerance and finite:
            foresight.used(iteration)
            return Solution(proposal, promised, False, iteration, Outcome.CONVERGED)
        least = _now(floor, iteration)
        if lowest < least and _is_rounding(residual > 0.9 * previous, lowest / least, foresight):
            return Solution(best, lowest, True, iteration, Outcome.ROUNDED)
        if idle >= patience:
            return Solution(best, lowest, True, iteration, Outcome.DIVERGED)
        if iteration == max_iterations and residual == lowest and finite:
            return Solution(proposal, residual, False, iteration, Outcome.MAX_ITERATIONS)
        previous, x = residual, proposal
    return Solution(best, lowest, True, max_iterations, Outcome.MAX_ITERATIONS)


def _now(limit: Limit, iteration: int) -> float:
    return limit(iteration) if callable(limit) else limit


def _is_rounding(stalled: bool, height: float, foresight: Foresight | None) -> bool:
    """Whether a residual `height` floors high is but rounding: it stalled, or is not above twice what another solve's stalled at."""
    if not foresight:
        return stalled
    known = height < 2 * foresight.grain
    if stalled:
        foresight.grain = height
    elif known:
        foresight.grain /= foresight.caution
    return stalled or known


def _dearness(first: float, residual: float, iteration: int) -> float:
    """max(1, 1 / sqrt(rate)), rate = ln(first / residual) / iterations so far; 1 where it is too early to say."""
    if iteration < 3 or not 0 < residual < first:
        return 1.0
    return max(1.0, (math.log(first / residual) / (iteration - 1)) ** -0.5)
