"""Descent on image latents, through the decoder and back."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from invrecon.core.objective import Decode, Score, squared_error

Values = Callable[[Tensor, Sequence[int]], Tensor]
"""(latents (n, C, h, w), the numbers of these samples) -> a value of each, (n,), differentiable."""

Proceed = Callable[[int, int, float, Tensor], bool]
"""(number of a sample, its evaluations so far, its value, its latents (1, C, h, w)) -> whether it goes on."""

BLOCK = 10  # evaluations after which `descend` asks whether to go on
SUFFICIENT = 1e-4  # the part of the decrease that the slope promises which a step has to bring
CHANGED = 0.1  # relative change of a value, at the same latents, with which a memory is worth nothing
OVERSHOOT = 0.9  # the part of the slope that may rise again where a step ends
ENOUGH_PAIRS = 5  # moves after which places are told apart by how stiff they are
MOST_UNEVEN = 10.0  # times the mean, the stiffness that a place may be given


@torch.no_grad()
def descend(
    values: Values,
    start: Tensor,
    proceed: Proceed,
    at_once: int | None = None,
    version: Callable[[], object] = lambda: None,
) -> list[tuple[Tensor, int]]:
    """Minimises a value of each sample by L-BFGS with backtracking; see `_Descent`. Samples descend side by
    side, each as if it were alone; one that ends leaves the evaluations.

    Args:
        values: they may change a little between blocks of `BLOCK` evaluations, where `version` does.
        start: latents, (B, C, h, w).
        proceed: asked for each sample after each block.
        at_once: samples in one call of `values`, so that memory is bounded; None for all.
        version: what the values depend on besides latents; a block that finds it changed begins with an
            evaluation where the descents stand.

    Returns:
        For each sample the lowest point, (1, C, h, w), and how many evaluations it took.
    """
    ended: dict[int, tuple[Tensor, int]] = {}
    active, steps, descent, known = list(range(len(start))), 0, _Descent(start), version()

    def evaluate(latents: Tensor) -> tuple[Tensor, Tensor]:
        size = at_once or len(latents)
        numbers = [active[first : first + size] for first in range(0, len(active), size)]
        parts = [_with_gradient(values, *part) for part in zip(latents.split(size), numbers, strict=True)]
        each, gradients = zip(*parts, strict=True)
        return torch.cat(each), torch.cat(gradients)

    while active:
        lowest = descent.block(evaluate, afresh=version() != known or not steps).tolist()
        steps, known = steps + BLOCK, version()
        points = zip(active, lowest, descent.latents.split(1), strict=True)
        going = [k for k, (one, value, z) in enumerate(points) if proceed(one, steps, value, z)]
        for one, z in zip(active, descent.latents.split(1), strict=True):
            ended[one] = z, steps
        descent.keep(going)
        active = [active[k] for k in going]
    return [ended[one] for one in range(len(start))]


def _with_gradient(values: Values, latents: Tensor, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The value of each sample, (n,), and its gradient, (n, C, h, w)."""
    free = latents.detach().requires_grad_()
    with torch.enable_grad():
        each = values(free, numbers)
        [gradient] = torch.autograd.grad(each.sum(), free)
    return each.detach(), gradient


class _Descent:
    """n descents by L-BFGS in lockstep (Nocedal and Wright 2006, algorithms 7.4 and 3.1), each with a memory
    of its own.

    The inverse Hessian begins as a diagonal, from all moves s and changes of the gradient y so far:

        H_0 ~ D^-1/2,      D = Σ blur(y²) / (s y)  over  Σ blur(s ⊙ y) / (s y)

    where blurring takes the mean over channels and 3 x 3 places: a decoder is far stiffer in some places than
    in others.

    Args:
        start: latents, (n, C, h, w). The first step moves them by 5 % of their deviation, on average.
    """

    def __init__(self, start: Tensor) -> None:
        self.latents = start
        self.pairs: list[tuple[Tensor, Tensor, Tensor]] = []  # s, y, 1 / (s y), or 0 where a step failed
        deviations = start.flatten(1).std(dim=1)
        self.first_size = 0.05 * start[0].numel() * deviations  # L1 norm of the first step
        self.last = torch.zeros_like(start), torch.zeros_like(deviations)  # y and s y, 0 where none is known
        self.stiff = self.soft = torch.zeros_like(start[:, :1])  # the two sums of D
        self.value, self.gradient = torch.full_like(deviations, math.inf), start

    def block(self, evaluate: Callable[[Tensor], tuple[Tensor, Tensor]], afresh: bool) -> Tensor:
        """`BLOCK` evaluations. Returns the values where the descents stand, (n,).

        Args:
            afresh: whether the first evaluation is one there, since the values may have changed. A memory is
                dropped where they have, by much.
        """
        value, gradient = self.value, self.gradient
        if afresh:
            value, gradient = evaluate(self.latents)
            self._forget((value - self.value).abs() > CHANGED * self.value.abs())
        direction, step = self._direction(gradient), torch.ones_like(value)
        for _ in range(BLOCK - afresh):
            slope, move = _dot(gradient, direction), _times(step, direction)
            new_value, new_gradient = evaluate(self.latents + move)
            new_slope = _dot(new_gradient, direction)
            # not so where one of them isn't a number
            good = (new_value <= value + SUFFICIENT * step * slope) & (new_slope <= -OVERSHOOT * slope)
            shorter = (slope / (slope - new_slope)).nan_to_num(0.1).clamp(0.1, 0.5)  # where a line meets zero
            which = _each(good, move)
            self._remember(torch.where(which, move, 0.0), torch.where(which, new_gradient - gradient, 0.0))
            self.latents = torch.where(which, self.latents + move, self.latents)
            value = torch.where(good, new_value, value)
            gradient = torch.where(which, new_gradient, gradient)
            direction = torch.where(which, self._direction(gradient), direction)
            step = torch.where(good, 1.0, step * shorter)
        self.value, self.gradient = value, gradient
        return value

    def keep(self, rows: Sequence[int]) -> None:
        """Lets go of all other descents."""
        self.latents, self.first_size, self.value, self.gradient, self.stiff, self.soft = (
            tensor[list(rows)]
            for tensor in (self.latents, self.first_size, self.value, self.gradient, self.stiff, self.soft)
        )
        self.last = self.last[0][list(rows)], self.last[1][list(rows)]
        self.pairs = [(s[list(rows)], y[list(rows)], inverse[list(rows)]) for s, y, inverse in self.pairs]

    def _forget(self, which: Tensor) -> None:
        self.pairs = [(s, y, torch.where(which, 0.0, inverse)) for s, y, inverse in self.pairs]
        self.last = self.last[0], torch.where(which, 0.0, self.last[1])

    def _remember(self, s: Tensor, y: Tensor) -> None:
        """Notes a move and the gradient's change by it, where the curvature along it is positive."""
        product, size = _dot(s, y), _dot(y, y)
        curved = product > 1e-10 * size
        inverse = torch.where(curved, 1 / product, 0.0)
        self.pairs.append((s, y, inverse))
        self.last = torch.where(_each(curved, y), y, self.last[0]), torch.where(curved, product, self.last[1])
        self.stiff = self.stiff + _times(inverse, _blur(y * y))
        self.soft = self.soft + _times(inverse, _blur(s * y)).clamp(min=0)

    def _direction(self, gradient: Tensor) -> Tensor:
        """-H g, where H is what the memory knows of the inverse Hessian."""
        q, weights = gradient, []
        for s, y, inverse in reversed(self.pairs):
            weights.append(inverse * _dot(s, q))
            q = q - _times(weights[-1], y)
        first = self.first_size / gradient.abs().flatten(1).sum(dim=1).clamp(min=1e-30)
        diagonal, (y, product) = self._diagonal(), self.last
        scale = product / _dot(y, diagonal * y).clamp(min=1e-30)
        q = _times(torch.where(product > 0, scale, first), diagonal * q)
        for (s, y, inverse), weight in zip(self.pairs, reversed(weights), strict=True):
            q = q + _times(weight - inverse * _dot(y, q), s)
        return -q

    def _diagonal(self) -> Tensor:
        """D^-1/2 but for its scale, (n, 1, h, w)."""
        if len(self.pairs) < ENOUGH_PAIRS:
            return torch.ones_like(self.stiff)
        mean = _times(self.soft.flatten(1).sum(1) / self.stiff.flatten(1).sum(1).clamp(min=1e-30), self.stiff)
        uneven = (mean / self.soft.clamp(min=1e-30)).clamp(1 / MOST_UNEVEN, MOST_UNEVEN)
        return uneven.rsqrt()


def _blur(values: Tensor) -> Tensor:
    """Means over channels and 3 x 3 places, (n, 1, h, w)."""
    return avg_pool2d(values.mean(dim=1, keepdim=True), 3, 1, 1, count_include_pad=False)


def _each(numbers: Tensor, like: Tensor) -> Tensor:
    """(n,) as (n, 1, 1, 1)."""
    return numbers.view(-1, *(1,) * (like.ndim - 1))


def _times(numbers: Tensor, latents: Tensor) -> Tensor:
    """Each sample times its number."""
    return _each(numbers, latents) * latents


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of each sample, (n,)."""
    return (a * b).flatten(1).sum(dim=1)


def decoder_ceiling(
    decode: Decode, encoded: Tensor, photo: Tensor, score: Score, max_steps: int = 400
) -> float:
    """PSNR in dB of the best picture that the decoder can give:  min_z mean((D(z) - x)²), from E(x) until it
    stops gaining.

    It has stopped when 20 decoder steps gain less than 0.02 dB, or after `max_steps`. No seed need lead to
    that z.
    """
    decibels: list[float] = []

    def proceed(_number: int, step: int, value: float, _latents: Tensor) -> bool:
        decibels.append(10 * math.log10(max(value, 1e-30)))
        return step < max_steps and (len(decibels) < 3 or decibels[-3] - decibels[-1] > 0.02)

    [(best, _)] = descend(lambda z, _: squared_error(decode(z), photo)[None], encoded, proceed)
    return score(best)
