"""What to try next: Picard, Anderson, Adam."""

from collections import deque

import torch
from torch import Tensor

from invrecon.solve.driver import Function


class Picard:
    """Plain or damped fixed-point iteration:  x <- x + damping (f(x) - x)."""

    def __init__(self, damping: float = 1.0) -> None:
        self.damping = damping

    def start(self, x: Tensor) -> None:
        """Has no state."""

    def step(self, fn: Function, x: Tensor) -> tuple[Tensor, Tensor]:
        fx = fn(x)
        return fx, torch.lerp(x, fx, self.damping)


class Anderson:
    """Anderson acceleration, type II (Walker & Ni 2011, doi:10.1137/10078356X):

        x <- x + β r - Σ_j γ_j (Δx_j + β Δr_j),     γ = argmin ‖r - Σ_j γ_j Δr_j‖,     r = f(x) - x

    The pairs (Δx, Δf) outlive a solve: for a series of similar functions they are a model of the Jacobian
    from the first iteration on. `pairs` may be rescaled or cleared between solves.

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

    def step(self, fn: Function, x: Tensor) -> tuple[Tensor, Tensor]:
        fx = fn(x)
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
        return fx, proposal


class Adam:
    """Gradient descent on ‖f(x) - x‖² through f, by Adam (arXiv:1412.6980), the published form of the method.

    Adam's step has the size of its learning rate whatever the gradient, so the rate follows the residual:
    lr_i = learning_rate * rms(f(x_i) - x_i). One iteration costs an evaluation and a backward pass.
    """

    def __init__(self, learning_rate: float = 0.5, betas: tuple[float, float] = (0.5, 0.9)) -> None:
        self.learning_rate = learning_rate
        self.betas = betas

    def start(self, x: Tensor) -> None:
        self._x = torch.nn.Parameter(x.clone())
        self._optimizer = torch.optim.Adam([self._x], betas=self.betas, eps=1e-12)

    def step(self, fn: Function, x: Tensor) -> tuple[Tensor, Tensor]:
        self._x.data.copy_(x)
        with torch.enable_grad():
            fx = fn(self._x)
            residual = fx - self._x
            rms = residual.detach().square().mean().sqrt()
            (self._x.grad,) = torch.autograd.grad(residual.square().sum() / (2 * rms.clamp(min=1e-30)), self._x)
        self._optimizer.param_groups[0]["lr"] = self.learning_rate * rms.item()
        self._optimizer.step()
        return fx.detach(), self._x.detach().clone()


def _least_squares(rows: Tensor, target: Tensor) -> Tensor:
    """w = argmin ‖target - w @ rows‖, by normal equations in float64 with a touch of regularisation."""
    rows64, target64 = rows.double(), target.double()
    norms = torch.linalg.vector_norm(rows64, dim=1).clamp(min=1e-300)
    unit = rows64 / norms[:, None]
    gram = unit @ unit.T + 1e-10 * torch.eye(len(rows), dtype=torch.float64, device=rows.device)
    return (torch.linalg.solve(gram, unit @ target64) / norms).to(rows.dtype)
