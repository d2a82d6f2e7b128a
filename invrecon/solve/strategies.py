"""Solvers by name, for a series of similar problems: what one solve learns helps the next."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from invrecon.solve.loop import Function, Method, Solution, solve
from invrecon.solve.methods import Adam, Anderson, Picard
from invrecon.solve.stopping import ContractionRates, Criterion


class Strategy:
    """A method for all samples, and others for those that it leaves unsolved. Each sample keeps its best
    iterate of all.

    The first method remembers earlier problems: contraction rates, and the pairs of Anderson acceleration,
    which are rescaled from problem to problem. Where it fails it has led astray, and what it learnt of the
    sample is dropped.

    Args:
        methods: by name, in the order in which they are tried.
        batch: samples.
    """

    def __init__(self, methods: dict[str, Method], batch: int) -> None:
        self.methods = methods
        self.rates = [ContractionRates() for _ in range(batch)]
        self.gain = 0.0

    def __call__(self, f: Function, x: Tensor, criteria: Sequence[Criterion], gain: float) -> Solution:
        """As `solve`. `gain` says how strongly f varies, up to a constant factor that all problems of the
        series share.
        """
        (name, first), *others = self.methods.items()
        if isinstance(first, Anderson) and self.gain:
            first.rescale(gain / self.gain)
        self.gain = gain
        solution = solve(f, x, first, criteria, self.rates)
        solution.results[:] = [replace(result, method=name) for result in solution.results]
        for name, method in others:
            unsolved = [
                sample
                for sample, result in enumerate(solution.results)
                if not result.outcome.solved and result.iterations < criteria[sample].max_iterations
            ]
            if unsolved:
                self._forget(unsolved)
                _try_again(f, solution, name, method, criteria, unsolved)
        return solution

    def _forget(self, samples: Sequence[int]) -> None:
        first = next(iter(self.methods.values()))
        if isinstance(first, Anderson):
            first.forget(samples)
        for sample in samples:
            self.rates[sample].rates.clear()


def _try_again(
    f: Function,
    solution: Solution,
    name: str,
    method: Method,
    criteria: Sequence[Criterion],
    samples: Sequence[int],
) -> None:
    """Goes on with another method from the best iterates of some samples; what is better takes their place in
    the solution.
    """
    rows = torch.tensor(samples, device=solution.x.device)
    left = [criteria[sample].after(solution.results[sample].iterations) for sample in samples]
    again = solve(lambda x, some: f(x, rows[some]), solution.x[rows], method, left)
    for sample, x, result in zip(samples, again.x, again.results, strict=True):
        best = solution.results[sample]
        iterations = best.iterations + result.iterations
        if result.residual < best.residual or result.outcome.solved:
            solution.x[sample], best = x, replace(result, method=name)
        solution.results[sample] = replace(best, iterations=iterations)


STRATEGIES: dict[str, Callable[[], dict[str, Method]]] = {
    "auto": lambda: {"anderson": Anderson(4), "damped": Anderson(8, damping=0.3), "adam": Adam()},
    "anderson": lambda: {"anderson": Anderson(4)},
    "picard": lambda: {"picard": Picard()},
    "adam": lambda: {"adam": Adam()},
}
"""The methods of each strategy."""


def make_strategy(name: str, batch: int = 1) -> Strategy:
    """A fresh solver for a series of problems of a batch; `name` is a key of `STRATEGIES`."""
    return Strategy(STRATEGIES[name](), batch)
