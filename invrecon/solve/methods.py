"""What to try next: Picard, Anderson, Adam. All take batches; no sample sees another."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from invrecon.solve.loop import Function


class Picard:
    """Plain or damped fixed-point iteration:  x <- x + damping (f(x) - x)."""

    def __init__(self, damping: float = 1.0) -> None:
        self.damping = damping

    def start(self, x: Tensor) -> None:
        """Has no state."""

    def step(self, f: Function, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        fx = f(x, rows)
        return fx, torch.lerp(x, fx, self.damping)


class Anderson:
    """Anderson acceleration, type II (Walker & Ni 2011, doi:10.1137/10078356X):

        x <- x + β r - Σ_j γ_j (Δx_j + β Δr_j),     γ = argmin ‖r - Σ_j γ_j Δr_j‖,     r = f(x) - x

    The pairs (Δx, Δf) outlive a solve: for a series of similar functions they are a model of the Jacobian
    from the first iteration on. A place in the window that holds no pair yet is zero, and takes no part.

    Args:
        window: pairs kept for each sample.
        damping: β in (0, 1].
    """

    def __init__(self, window: int = 3, damping: float = 1.0) -> None:
        self.window, self.damping = window, damping
        self._dx = self._df = torch.empty(0)  # (B, window, d)
        self._counts = torch.empty(0)  # pairs seen by each sample, (B,)
        self._last: tuple[Tensor, Tensor] | None = None  # iterates and their f, (B, d)

    def start(self, x: Tensor) -> None:
        flat = x.flatten(1)
        self._last = None
        if self._dx.shape != (len(flat), self.window, flat.shape[1]):
            self._dx = flat.new_zeros(len(flat), self.window, flat.shape[1])
            self._df = torch.zeros_like(self._dx)
            self._counts = torch.zeros(len(flat), dtype=torch.long, device=x.device)

    def rescale(self, factor: float) -> None:
        """Says that the next f varies `factor` times as strongly as the last."""
        self._df *= factor

    def forget(self, samples: Sequence[int]) -> None:
        """Drops the pairs of some samples."""
        self._dx[samples] = 0.0
        self._df[samples] = 0.0

    def step(self, f: Function, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        fx = f(x, rows)
        return fx, self.propose(x, fx, rows)

    def propose(self, x: Tensor, fx: Tensor, rows: Tensor) -> Tensor:
        """The next iterates of some samples, (n, ...)."""
        flat, f_flat = x.flatten(1), fx.flatten(1)
        if self._last is None:
            self._last = torch.zeros_like(self._dx[:, 0]), torch.zeros_like(self._dx[:, 0])
        else:
            place = self._counts[rows] % self.window
            self._dx[rows, place] = flat - self._last[0][rows]
            self._df[rows, place] = f_flat - self._last[1][rows]
            self._counts[rows] += 1
        self._last[0][rows], self._last[1][rows] = flat, f_flat
        residual, dx = f_flat - flat, self._dx[rows]
        dr = self._df[rows] - dx
        weights = _least_squares(dr, residual)
        correction = (weights[:, None] @ (dx + self.damping * dr))[:, 0]
        return (flat + self.damping * residual - correction).view_as(x)


class Adam:
    """Gradient descent on ‖f(x) - x‖² through f, by Adam (arXiv:1412.6980), the published form of the method.

    Adam's step has the size of its learning rate whatever the gradient, and so would never settle. Here the
    rate follows the residual, lr_i = rate_i rms(r_i), and rate_i grows by a fifth while the residual falls
    and halves when it rises. The gradient is scaled to rms 1 and Adam's epsilon is 1, so that small
    components take small steps. One iteration costs an evaluation and a backward pass. Gradients are taken
    sample by sample: the graphs of a whole batch would not fit into memory.
    """

    def __init__(self, learning_rate: float = 1.0, betas: tuple[float, float] = (0.3, 0.9)) -> None:
        self.learning_rate, self.betas = learning_rate, betas

    def start(self, x: Tensor) -> None:
        self._change = torch.nn.Parameter(torch.zeros_like(x))
        self._optimizer = torch.optim.Adam([self._change], lr=1.0, betas=self.betas, eps=1.0)
        self._rates = x.new_full((len(x),), self.learning_rate)
        self._last = x.new_full((len(x),), math.inf)

    def step(self, f: Function, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        fx, gradient = _gradients(f, x, rows)
        rms = _rms(fx - x)
        self._rates[rows] *= torch.where(rms < self._last[rows], 1.2, 0.5)
        self._last[rows] = rms
        slope = _rms(gradient).clamp(min=torch.finfo(x.dtype).tiny)
        self._change.grad = torch.zeros_like(self._change)
        self._change.grad[rows] = gradient / _like(slope, gradient)
        self._change.data.zero_()  # Adam's step doesn't depend on where it starts
        self._optimizer.step()
        return fx, x + _like(self._rates[rows] * rms, x) * self._change.detach()[rows]


def _gradients(f: Function, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """f(x), and the gradient of ‖f(x) - x‖² / 2, both (n, ...)."""
    values, gradients = [], []
    for one, row in zip(x.split(1), rows.split(1), strict=True):
        with torch.enable_grad():
            free = one.detach().requires_grad_()
            value = f(free, row)
            gradients.append(torch.autograd.grad((value - free).square().sum() / 2, free)[0])
        values.append(value.detach())
    return torch.cat(values), torch.cat(gradients)


def _least_squares(rows: Tensor, target: Tensor) -> Tensor:
    """w = argmin ‖target - w @ rows‖, (n, m), by normal equations of unit rows with a touch of
    regularisation.

    Args:
        rows: (n, m, d); a row of zeros has weight 0.
        target: (n, d).
    """
    norms = rows.norm(dim=2).clamp(min=torch.finfo(rows.dtype).tiny)
    unit = rows / norms[..., None]
    ridge = 10 * torch.finfo(rows.dtype).eps * torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
    products = torch.linalg.vecdot(
        unit, target[:, None]
    )  # rounds alike in every batch; `@` with a vector doesn't
    # `solve_ex`, unlike `solve`, doesn't wait for the device
    return torch.linalg.solve_ex(unit @ unit.mT + ridge, products[..., None])[0][..., 0] / norms


def _rms(x: Tensor) -> Tensor:
    """Of each sample, (n,)."""
    return x.flatten(1).square().mean(1).sqrt()


def _like(numbers: Tensor, x: Tensor) -> Tensor:
    """A number for each sample, (n,), shaped to multiply x, (n, ...)."""
    return numbers.view(-1, *(1,) * (x.ndim - 1))
