"""Affine permutations between tensors of two shapes, read off a function by asking it."""

from collections.abc import Callable

import torch
from torch import Tensor

BASE = 64  # digits that half precision holds exactly


class AffinePermutation:
    """y_j = shift_j + gain_j x_place(j), of tensors whose first dimension is the batch.

    Args:
        shape: of x, without the batch.
        shift, gain: (*y's shape), without the batch.
        place: of each y_j among the flattened x, same shape.
    """

    def __init__(self, shape: tuple[int, ...], shift: Tensor, gain: Tensor, place: Tensor) -> None:
        self.shape = shape
        self.shift, self.gain, self.place = shift, gain, place
        self.inverse = torch.argsort(place.flatten())

    def __call__(self, x: Tensor) -> Tensor:
        return self.shift.to(x) + self.gain.to(x) * self.permute(x)

    def undo(self, y: Tensor) -> Tensor:
        """x of y."""
        return self.unpermute((y - self.shift.to(y)) / self.gain.to(y))

    def permute(self, x: Tensor) -> Tensor:
        """x's values at y's places, neither scaled nor shifted."""
        return x.flatten(1)[:, self.place.flatten().to(x.device)].view(len(x), *self.place.shape)

    def unpermute(self, y: Tensor) -> Tensor:
        """Undoes `permute`."""
        return y.flatten(1)[:, self.inverse.to(y.device)].view(len(y), *self.shape)


def read_affine(function: Callable[[Tensor], Tensor], like: Tensor) -> AffinePermutation:
    """The affine permutation that `function` is: zeros tell the shift, ones the gain, an index in digits of
    base 64 the places.

    Args:
        function: (n, *shape) -> (n, *another shape), of the same number of values.
        like: (1, *shape); dtype and device of what the function is asked with.

    Raises:
        ValueError: it isn't one.
    """
    count, shape = like.numel(), like.shape[1:]
    index = torch.arange(count, device=like.device)
    digits = [index // BASE**power % BASE for power in range(_digits(count))]
    trial = torch.randn(count, generator=torch.Generator().manual_seed(0)).to(like)
    asked = torch.stack(
        [torch.zeros_like(trial), torch.ones_like(trial), trial, *(d.to(trial) for d in digits)]
    )
    zero, one, tried, *told = function(asked.view(-1, *shape)).detach().double().cpu()
    gain = one - zero
    if zero.numel() != count or not bool((gain != 0).all()):
        raise ValueError(f"{tuple(shape)} and {tuple(zero.shape)} don't hold the same values")
    place = torch.zeros_like(zero)
    for power, answer in enumerate(told):
        place += ((answer - zero) / gain).round() * BASE**power
    if not torch.equal(place.flatten().sort().values, torch.arange(count).to(place)):
        raise ValueError("values are mixed or lost")
    read = AffinePermutation(tuple(shape), zero, gain, place.long())
    error = (read(trial.double().cpu().view(1, *shape))[0] - tried).norm() / tried.norm()
    if not error < 16 * torch.finfo(like.dtype).eps:
        raise ValueError("it isn't affine")
    return read


def _digits(count: int) -> int:
    digits = 1
    while BASE**digits < count:
        digits += 1
    return digits
