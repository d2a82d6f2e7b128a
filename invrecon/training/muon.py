"""Muon for convolutions: its orthogonal update lets weak directions (colour) learn as fast as strong ones."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer


class Muon(Optimizer):
    """W <- W - lr sqrt(max(1, rows / columns)) orth(momentum), for weights as (out, in * k * k) matrices.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/
    `torch.optim.Muon` takes matrices only.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            gradients = [weight.grad for weight in weights]
            momenta = [
                self.state[weight].setdefault("momentum", torch.zeros_like(weight)) for weight in weights
            ]
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
            looked_ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])
            alike: dict[tuple[int, int], list[int]] = {}
            for i, update in enumerate(looked_ahead):
                alike.setdefault((update.shape[0], update[0].numel()), []).append(i)
            for (rows, columns), indices in alike.items():  # matrices of one shape in one product
                updates = orthogonal(torch.stack([looked_ahead[i].flatten(1) for i in indices]))
                scale = max(1.0, rows / columns) ** 0.5
                torch._foreach_add_(
                    [weights[i] for i in indices],
                    [update.view_as(weights[i]) for update, i in zip(updates, indices, strict=True)],
                    alpha=-group["lr"] * scale,
                )


def orthogonal(matrices: Tensor, iterations: int = 5) -> Tensor:
    """The nearest matrices with singular values near 1, (B, rows, columns), by a quintic Newton-Schulz
    iteration in bfloat16.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    wide = x.mT if tall else x
    wide = wide / (torch.linalg.matrix_norm(wide, keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = wide @ wide.mT
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return (wide.mT if tall else wide).to(matrices.dtype)


def optimizers(
    model: nn.Module, muon_rate: float, adam_rate: float, outer: tuple[str, ...]
) -> dict[str, Optimizer]:
    """Muon for the inner convolutions and linear layers, AdamW for all else and for names that contain a word
    of `outer`.
    """
    inner: list[Tensor] = []
    rest: list[Tensor] = []
    for name, weight in model.named_parameters():
        (inner if weight.ndim >= 2 and not any(word in name for word in outer) else rest).append(weight)
    return {
        "muon": Muon(inner, muon_rate),
        "adam": AdamW(rest, adam_rate, betas=(0.9, 0.99), weight_decay=0.0),
    }
