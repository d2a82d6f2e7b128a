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
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                momentum = state.setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 1 - group["momentum"])
                update = orthogonal(weight.grad.lerp(momentum, group["momentum"]).flatten(1))
                scale = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                weight.add_(update.view_as(weight), alpha=-group["lr"] * scale)


def orthogonal(matrix: Tensor, iterations: int = 5) -> Tensor:
    """The nearest matrix with singular values near 1, by a quintic Newton-Schulz iteration in bfloat16."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.bfloat16()
    wide = x.T if x.shape[0] > x.shape[1] else x
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(iterations):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return (wide.T if x.shape[0] > x.shape[1] else wide).to(matrix.dtype)


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
