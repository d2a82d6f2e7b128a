"""When the solve of one sample ends: plain numbers, no tensors."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

Limit = float | Callable[[int], float]
"""A bound on a residual: a number, or one that depends on the number of evaluations of f so far."""


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


@dataclass(frozen=True)
class Criterion:
    """When a sample is solved:  ‖f(x) - x‖ < rtol * scale.

    Args:
        rtol: relative tolerance.
        max_iterations: evaluations of f, >= 1.
        scale: norm that makes the residual dimensionless, > 0.
        floor: relative residual that rounding in f may leave. A residual below it that no longer falls ends
            the solve.
        max_relaxation: how many times the tolerance is enough where the residual falls slowly, >= 1; see
            `slow_step_factor`.
        patience: iterations without a new lowest residual after which the solve counts as diverged.
    """

    rtol: Limit
    max_iterations: int
    scale: float = 1.0
    floor: Limit = 0.0
    max_relaxation: float = 1.0
    patience: int = 5

    def after(self, iterations: int) -> "Criterion":
        """What is left of this criterion once another method has taken so many iterations."""
        return replace(
            self,
            rtol=_shifted(self.rtol, iterations),
            floor=_shifted(self.floor, iterations),
            max_iterations=self.max_iterations - iterations,
        )


@dataclass(frozen=True)
class Result:
    """How the solve of one sample ended.

    Args:
        residual: ‖f(x) - x‖ / scale at the solution; an estimate where `checked` is False.
        checked: whether f was evaluated at the solution itself.
        iterations: evaluations of f.
        method: the name of the method that found the solution.
    """

    residual: float
    checked: bool
    iterations: int
    outcome: Outcome
    method: str = ""


class Point(Enum):
    """Which iterate is the solution."""

    BEST = "the one with the lowest residual so far"
    CURRENT = "the one that f was just evaluated at"
    NEXT = "the one that the method proposes next, unchecked"


class ContractionRates:
    """By what factor a sample's residual falls after each iteration, as seen in earlier solves of a series.

    They save the last evaluation of a solve, which would only confirm the solution. A rate that was relied
    upon without a check is raised by the factor `caution`, so that a later solve checks for itself again.

    Args:
        caution: > 1.
        lowest: smaller rates count as this one, since one good iteration says little of the next.
    """

    def __init__(self, caution: float = 1.25, lowest: float = 0.03) -> None:
        self.caution, self.lowest = caution, lowest
        self.rates: dict[int, float] = {}
        self.rounding_level = 0.0
        """The residual, in units of the criterion's floor, at which an earlier solve stopped falling."""

    def expected(self, iteration: int, residual: float) -> float:
        """The residual expected at the next iterate; `residual` itself where nothing is known."""
        return residual * self.rates.get(iteration, 1.0)

    def relied_on(self, iteration: int) -> None:
        """Notes that the rate was relied upon without a check."""
        self.rates[iteration] = min(1.0, self.caution * self.rates[iteration])

    def observe(self, iteration: int, rate: float) -> None:
        """Notes by what factor the residual fell after this iteration."""
        self.rates[iteration] = min(1.0, max(rate, self.lowest))

    def is_rounding(self, stalled: bool, level: float) -> bool:
        """Whether a residual of `level` floors is nothing but rounding: it stalled, or an earlier solve
        stalled at half of it or more.
        """
        known = level < 2 * self.rounding_level
        if stalled:
            self.rounding_level = level
        elif known:
            self.rounding_level /= self.caution
        return stalled or known


class Progress:
    """What the residuals of one sample's solve have been so far.

    Args:
        criterion: when it is solved.
        rates: shared by the solves of a series; None where every solution is to be checked.
    """

    def __init__(self, criterion: Criterion, rates: ContractionRates | None = None) -> None:
        self.criterion, self.rates = criterion, rates
        self.iterations = self.since_lowest = 0
        self.first = self.previous = self.lowest = math.inf

    def judge(self, norm: float, finite: bool) -> tuple[Point, Result] | None:
        """Takes ‖f(x) - x‖ of the current iterate; returns the solution and how it ended, or None where the
        solve goes on.

        Args:
            finite: whether the next iterate is.
        """
        self.iterations += 1
        residual = norm / self.criterion.scale
        if not math.isfinite(residual):
            return self._end(Point.BEST, Outcome.DIVERGED)
        self._observe(residual)
        ending = self._ending(residual, finite)
        self.previous = residual
        return ending

    def _observe(self, residual: float) -> None:
        if self.rates and self.iterations > 1:
            self.rates.observe(self.iterations - 1, residual / max(self.previous, 1e-300))
        self.since_lowest = 0 if residual < self.lowest else self.since_lowest + 1
        self.lowest = min(self.lowest, residual)
        self.first = residual if self.iterations == 1 else self.first

    def _ending(self, residual: float, finite: bool) -> tuple[Point, Result] | None:
        criterion, rates, iteration = self.criterion, self.rates, self.iterations
        relaxation = min(criterion.max_relaxation, slow_step_factor(self.first, residual, iteration))
        tolerance = _at(criterion.rtol, iteration) * relaxation
        if residual < tolerance:
            return self._end(Point.CURRENT, Outcome.CONVERGED, residual)
        if rates and finite and (expected := rates.expected(iteration, residual)) < tolerance:
            rates.relied_on(iteration)
            return self._end(Point.NEXT, Outcome.CONVERGED, expected)
        floor, stalled = _at(criterion.floor, iteration), residual > 0.9 * self.previous
        if self.lowest < floor and (rates.is_rounding(stalled, self.lowest / floor) if rates else stalled):
            return self._end(Point.BEST, Outcome.ROUNDED)
        if self.since_lowest >= criterion.patience:
            return self._end(Point.BEST, Outcome.DIVERGED)
        if iteration < criterion.max_iterations:
            return None
        if residual == self.lowest and finite:
            return self._end(Point.NEXT, Outcome.MAX_ITERATIONS, residual)
        return self._end(Point.BEST, Outcome.MAX_ITERATIONS)

    def _end(self, point: Point, outcome: Outcome, residual: float | None = None) -> tuple[Point, Result]:
        residual = self.lowest if residual is None else residual
        return point, Result(
            residual, point is not Point.NEXT and residual < math.inf, self.iterations, outcome
        )


def slow_step_factor(first: float, residual: float, iteration: int) -> float:
    """max(1, 1 / sqrt(rate)) with rate = ln(first / residual) / iterations so far; 1 in the first two
    iterations.

    Where a residual falls by less than a factor of e an iteration, its tolerance is relaxed by this factor:
    among the problems of a series, that shares iterations best.
    """
    if iteration < 3 or not 0 < residual < first:
        return 1.0
    return max(1.0, (math.log(first / residual) / (iteration - 1)) ** -0.5)


def _at(limit: Limit, iteration: int) -> float:
    return limit(iteration) if callable(limit) else limit


def _shifted(limit: Limit, iterations: int) -> Limit:
    if not callable(limit):
        return limit
    later = limit
    return lambda iteration: later(iterations + iteration)
