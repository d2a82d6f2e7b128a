"""What to try next: Picard, Anderson, Adam."""

import math
from collections import deque

import torch
from torch import Tensor

from invrecon.solve.driver import Function
from invrecon.solve.talk import Read, Talk


class Picard:
    """Plain or damped fixed-point iteration:  x <- x + damping (f(x) - x)."""

    def __init__(self, damping: float = 1.0) -> None:
        self.damping = damping

    def start(self, x: Tensor) -> None:
        """Has no state."""

    def step(self, fn: Function, x: Tensor) -> Talk[tuple[Tensor, Tensor]]:
        fx = yield from fn(x)
        return fx, torch.lerp(x, fx, self.damping)


class Anderson:
    """Anderson acceleration, type II (Walker & Ni 2011, doi:10.1137/10078356X):

        x <- x + β r - Σ_j γ_j (Δx_j + β Δr_j),     γ = argmin ‖r - Σ_j γ_j Δr_j‖,     r = f(x) - x

    The pairs (Δx, Δf) outlive a solve: for a series of similar functions they are a model of the Jacobian
    from the first iteration on.

    Args:
        window: pairs kept.
        damping: β in (0, 1].
    """

    def __init__(self, window: int = 3, damping: float = 1.0) -> None:
        self.damping = damping
        self.pairs: deque[tuple[Tensor, Tensor]] = deque(maxlen=window)
        self._last: tuple[Tensor, Tensor] | None = None

    def start(self, x: Tensor) -> None:
        self._last = None

    def rescale(self, factor: float) -> None:
        """Tells that the next f varies `factor` times as strongly as the last."""
        self.pairs = deque([(dx, factor * df) for dx, df in self.pairs], maxlen=self.pairs.maxlen)

    def step(self, fn: Function, x: Tensor) -> Talk[tuple[Tensor, Tensor]]:
        fx = yield from fn(x)
        return fx, self.propose(x, fx)

    def propose(self, x: Tensor, fx: Tensor) -> Tensor:
        """The next x."""
        if self._last is not None:
            self.pairs.append((x - self._last[0], fx - self._last[1]))
        self._last = x, fx
        residual = fx - x
        proposal = x + self.damping * residual
        if self.pairs:
            dx = torch.stack([pair[0].flatten() for pair in self.pairs])
            dr = torch.stack([pair[1].flatten() for pair in self.pairs]) - dx
            weights = _least_squares(dr, residual.flatten())
            proposal = proposal - (weights @ (dx + self.damping * dr)).view_as(x)
        return proposal


class Adam:
    """Gradient descent on ‖f(x) - x‖² through f, by Adam (arXiv:1412.6980), the published form of the method.

    Adam's step has the size of its learning rate whatever the gradient, and so would never settle. Here the rate
    follows the residual, lr_i = rate_i rms(r_i), and rate_i grows by a fifth while the residual falls and halves when
    it rises. The gradient is scaled to rms 1 and Adam's epsilon is 1, so that small components take small steps.
    One iteration costs an evaluation and a backward pass.
    """

    def __init__(self, learning_rate: float = 1.0, betas: tuple[float, float] = (0.3, 0.9)) -> None:
        self.learning_rate = learning_rate
        self.betas = betas

    def start(self, x: Tensor) -> None:
        self._x = torch.nn.Parameter(x.clone())
        self._optimizer = torch.optim.Adam([self._x], betas=self.betas, eps=1.0)
        self._rate, self._last = self.learning_rate, math.inf

    def step(self, fn: Function, x: Tensor) -> Talk[tuple[Tensor, Tensor]]:
        self._x.data.copy_(x)
        fx = yield from fn(self._x)
        with torch.enable_grad():
            residual = fx - self._x
            (gradient,) = torch.autograd.grad(residual.square().sum() / 2, self._x)
        rms, slope = yield Read(torch.stack((_rms(residual.detach()), _rms(gradient))))
        self._rate *= 1.2 if rms < self._last else 0.5
        self._last = rms
        self._x.grad = gradient / max(slope, torch.finfo(x.dtype).tiny)
        self._optimizer.param_groups[0]["lr"] = self._rate * rms
        self._optimizer.step()
        return fx.detach(), self._x.detach().clone()


def _least_squares(rows: Tensor, target: Tensor) -> Tensor:
    """w = argmin ‖target - w @ rows‖, by normal equations of unit rows with a touch of regularisation."""
    norms = torch.linalg.vector_norm(rows, dim=1).clamp(min=torch.finfo(rows.dtype).tiny)
    unit = rows / norms[:, None]
    ridge = 10 * torch.finfo(rows.dtype).eps * torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
    return (
        torch.linalg.solve_ex(unit @ unit.T + ridge, unit @ target)[0] / norms
    )  # unlike `solve`, doesn't wait for the device


def _rms(x: Tensor) -> Tensor:
    return x.square().mean().sqrt()
