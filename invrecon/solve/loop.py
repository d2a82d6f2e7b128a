"""The loop that every method shares."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from invrecon.solve.stopping import ContractionRates, Criterion, Point, Progress, Result

Function = Callable[[Tensor, Tensor], Tensor]
"""f(x, rows): values (n, ...) of n samples, and which samples of the batch these are, (n,) -> f of each, (n,
...).
"""


class Method(Protocol):
    """What to try next."""

    def start(self, x: Tensor) -> None:
        """Prepares for a solve that starts at x, (B, ...)."""
        ...

    def step(self, f: Function, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluates f at the iterates x of some samples, (n, ...), once; returns f(x) and the next
        iterates.
        """
        ...


@dataclass(frozen=True)
class Solution:
    """The best iterate of each sample, (B, ...), and how its solve ended."""

    x: Tensor
    results: list[Result]


@torch.no_grad()
def solve(
    f: Function,
    x: Tensor,
    method: Method,
    criteria: Sequence[Criterion],
    rates: Sequence[ContractionRates | None] | None = None,
) -> Solution:
    """Finds x_i with f(x_i) = x_i for all samples side by side. Reads numbers from the device once an
    iteration.

    Args:
        x: where to start, (B, ...).
        criteria: when each sample is solved, B of them.
        rates: of each sample, where the problem is one of a series.

    Returns:
        Finite values, if the start is finite. Where iterations run out while the residual falls, the solution
        is the next iterate, unchecked.
    """
    method.start(x)
    best, ended = x.clone(), dict[int, Result]()
    samples = [Progress(*pair) for pair in zip(criteria, rates or [None] * len(x), strict=True)]
    active = list(range(len(x)))
    while active:
        rows = torch.tensor(active, device=x.device)
        fx, proposal = method.step(f, x, rows)
        endings = _judge([samples[row] for row in active], fx - x, proposal)
        improved = [k for k, row in enumerate(active) if samples[row].since_lowest == 0]
        best[rows[improved]] = x[improved]
        for k, ending in enumerate(endings):
            if ending:
                point, ended[active[k]] = ending
                if point is not Point.BEST:
                    best[active[k]] = (x if point is Point.CURRENT else proposal)[k]
        going = [k for k, ending in enumerate(endings) if not ending]
        x, active = proposal[going], [active[k] for k in going]
    return Solution(best, [ended[row] for row in range(len(best))])


def _judge(
    samples: Sequence[Progress], residuals: Tensor, proposal: Tensor
) -> list[tuple[Point, Result] | None]:
    norms, finite = residuals.flatten(1).norm(dim=1), proposal.flatten(1).isfinite().all(1)
    numbers = torch.stack((norms, finite.to(norms.dtype))).tolist()
    return [sample.judge(norm, bool(ok)) for sample, norm, ok in zip(samples, *numbers, strict=True)]
