"""Solvers by name, made for a series of similar problems: what one solve learns helps the next."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Protocol

from torch import Tensor

from invrecon.solve.driver import Foresight, Function, Limit, Method, Solution, Tolerance, solving
from invrecon.solve.methods import Adam, Anderson, Picard
from invrecon.solve.talk import Talk

SLACK = 3.0  # see `solving`


class Strategy(Protocol):
    """Solves one problem of a series."""

    def __call__(
        self,
        fn: Function,
        x: Tensor,
        *,
        rtol: Limit,
        scale: float,
        max_iterations: int,
        gain: float,
        floor: Limit = 0.0,
    ) -> Talk[Solution]:
        """As `solving`. `gain` tells how strongly f varies, up to a constant factor that all problems of the series share."""
        ...


class Single:
    """One method; of earlier problems only how the residual fell is remembered."""

    def __init__(self, method: Method) -> None:
        self.method = method
        self.foresight = Foresight()

    def __call__(
        self,
        fn: Function,
        x: Tensor,
        *,
        rtol: Limit,
        scale: float,
        max_iterations: int,
        gain: float,
        floor: Limit = 0.0,
    ) -> Talk[Solution]:
        found = yield from solving(
            fn,
            x,
            self.method,
            rtol=rtol,
            scale=scale,
            max_iterations=max_iterations,
            foresight=self.foresight,
            floor=floor,
            slack=SLACK,
        )
        return replace(found, method=type(self.method).__name__.lower())


class Carried(Single):
    """Anderson acceleration whose pairs are carried from problem to problem, rescaled by the gain."""

    def __init__(self, window: int = 4) -> None:
        super().__init__(Anderson(window))
        self.anderson: Anderson = self.method  # type: ignore[assignment]
        self.gain: float | None = None

    def __call__(
        self,
        fn: Function,
        x: Tensor,
        *,
        rtol: Limit,
        scale: float,
        max_iterations: int,
        gain: float,
        floor: Limit = 0.0,
    ) -> Talk[Solution]:
        if self.gain:
            self.anderson.rescale(gain / self.gain)
        self.gain = gain
        return super().__call__(
            fn, x, rtol=rtol, scale=scale, max_iterations=max_iterations, gain=gain, floor=floor
        )

    def forget(self) -> None:
        """Drops what was learnt; for when it has led astray."""
        self.anderson.pairs.clear()
        self.foresight.falls.clear()


class Auto:
    """Accelerated first; where that stops, damped from the best point known; then gradients. Keeps the best of all."""

    def __init__(self) -> None:
        self.first = Carried()

    def __call__(
        self,
        fn: Function,
        x: Tensor,
        *,
        rtol: Limit,
        scale: float,
        max_iterations: int,
        gain: float,
        floor: Limit = 0.0,
    ) -> Talk[Solution]:
        best = yield from self.first(
            fn, x, rtol=rtol, scale=scale, max_iterations=max_iterations, gain=gain, floor=floor
        )
        used = best.iterations
        for name, method in (("damped", Anderson(window=8, damping=0.3)), ("adam", Adam())):
            if best.outcome.solved or used >= max_iterations:
                break
            self.first.forget()
            later = partial(_after, rtol, used) if callable(rtol) else rtol
            left = max_iterations - used
            again = yield from solving(
                fn, best.x, method, rtol=later, scale=scale, max_iterations=left, floor=floor, slack=SLACK
            )
            used += again.iterations
            if again.residual < best.residual or again.outcome.solved:
                best = replace(again, method=name)
        return best


def _after(rtol: Tolerance, used: int, iteration: int) -> float:
    return rtol(used + iteration)


STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "auto": Auto,
    "anderson": Carried,
    "picard": lambda: Single(Picard()),
    "adam": lambda: Single(Adam()),
}


def make_strategy(name: str) -> Strategy:
    """A fresh solver for a series of problems; `name` is a key of `STRATEGIES`."""
    return STRATEGIES[name]()
