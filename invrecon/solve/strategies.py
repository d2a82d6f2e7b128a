"""Solvers by name, for a series of similar problems: what one solve learns helps the next."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from invrecon.solve.loop import Function, Method, Solution, solve
from invrecon.solve.methods import Adam, Anderson, Picard
from invrecon.solve.stopping import ContractionRates, Criterion, Result


class Strategy(Protocol):
    """Solves one problem of a series, for a batch."""

    def __call__(self, f: Function, x: Tensor, criteria: Sequence[Criterion], gain: float) -> Solution:
        """As `solve`. `gain` says how strongly f varies, up to a constant factor that all problems of the
        series share.
        """
        ...


class Single:
    """One method; of earlier problems only the contraction rates are remembered.

    Args:
        batch: samples.
    """

    def __init__(self, method: Method, batch: int) -> None:
        self.method = method
        self.rates = [ContractionRates() for _ in range(batch)]

    def __call__(self, f: Function, x: Tensor, criteria: Sequence[Criterion], gain: float) -> Solution:
        solution = solve(f, x, self.method, criteria, self.rates)
        name = type(self.method).__name__.lower()
        return replace(solution, results=[replace(result, method=name) for result in solution.results])


class Carried(Single):
    """Anderson acceleration whose pairs are carried from problem to problem, rescaled by the gain."""

    def __init__(self, batch: int, window: int = 4) -> None:
        self.anderson = Anderson(window)
        super().__init__(self.anderson, batch)
        self.gain = 0.0

    def __call__(self, f: Function, x: Tensor, criteria: Sequence[Criterion], gain: float) -> Solution:
        if self.gain:
            self.anderson.rescale(gain / self.gain)
        self.gain = gain
        return super().__call__(f, x, criteria, gain)

    def forget(self, rows: Tensor) -> None:
        """Drops what was learnt of some samples, after it has led astray."""
        self.anderson.forget(rows)
        for row in rows.tolist():
            self.rates[row].rates.clear()


class Auto:
    """Accelerated first; for samples where that stops, damped from the best point known; then gradients.
    Keeps the best of all.
    """

    def __init__(self, batch: int) -> None:
        self.first = Carried(batch)

    def __call__(self, f: Function, x: Tensor, criteria: Sequence[Criterion], gain: float) -> Solution:
        solution = self.first(f, x, criteria, gain)
        for name, method in (("damped", Anderson(window=8, damping=0.3)), ("adam", Adam())):
            unsolved = [row for row, result in enumerate(solution.results) if _goes_on(result, criteria[row])]
            if not unsolved:
                break
            rows = torch.tensor(unsolved, device=x.device)
            self.first.forget(rows)
            left = [criteria[row].after(solution.results[row].iterations) for row in unsolved]
            again = solve(_restricted(f, rows), solution.x[rows], method, left)
            for row, value, result in zip(unsolved, again.x, again.results, strict=True):
                before = solution.results[row]
                total = before.iterations + result.iterations
                if result.residual < before.residual or result.outcome.solved:
                    solution.x[row], before = value, replace(result, method=name)
                solution.results[row] = replace(before, iterations=total)
        return solution


def _goes_on(result: Result, criterion: Criterion) -> bool:
    return not result.outcome.solved and result.iterations < criterion.max_iterations


def _restricted(f: Function, rows: Tensor) -> Function:
    return lambda x, some: f(x, rows[some])


STRATEGIES: dict[str, Callable[[int], Strategy]] = {
    "auto": Auto,
    "anderson": Carried,
    "picard": lambda batch: Single(Picard(), batch),
    "adam": lambda batch: Single(Adam(), batch),
}


def make_strategy(name: str, batch: int = 1) -> Strategy:
    """A fresh solver for a series of problems of a batch; `name` is a key of `STRATEGIES`."""
    return STRATEGIES[name](batch)
