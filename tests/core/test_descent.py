"""L-BFGS in lockstep, on functions whose lowest points are known."""

import pytest
import torch
from torch import Tensor

from invrecon.core.descent import BLOCK, descend

GENERATOR = torch.Generator().manual_seed(0)
CENTRES = torch.randn(3, 2, 4, 4, dtype=torch.float64, generator=GENERATOR)
START = torch.randn(3, 2, 4, 4, dtype=torch.float64, generator=GENERATOR)
WEIGHTS = torch.logspace(-2, 2, 32, dtype=torch.float64).view(1, 2, 4, 4)  # a condition of 10 000


def bowls(latents: Tensor, numbers: list[int]) -> Tensor:
    """Σ w (z - c)², of sizes that differ by a million from sample to sample."""
    sizes = torch.tensor([1.0, 1e-3, 1e3], dtype=torch.float64)
    return sizes[numbers] * (WEIGHTS * (latents - CENTRES[numbers]).square()).flatten(1).sum(1)


def rosenbrock(latents: Tensor, numbers: list[int]) -> Tensor:
    x, y = latents.flatten(1).chunk(2, dim=1)
    return ((1 - x).square() + 100 * (y - x.square()).square()).sum(1)


def until(steps: int):
    return lambda _number, done, _value, _latents: done < steps


@pytest.mark.parametrize(("values", "lowest"), [(bowls, CENTRES), (rosenbrock, torch.ones_like(START))])
def test_each_sample_comes_to_its_own_lowest_point(values, lowest):
    for number, (point, steps) in enumerate(descend(values, START, until(300))):
        assert steps == 300
        torch.testing.assert_close(point, lowest[number : number + 1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("at_once", [None, 2, 1])
def test_samples_descend_as_if_alone_and_leave_when_they_are_done(at_once):
    ends, sizes = {0: 20, 1: 40, 2: 10}, []

    def counted(latents: Tensor, numbers: list[int]) -> Tensor:
        sizes.append(len(latents))
        return bowls(latents, numbers)

    together = descend(counted, START, lambda number, done, *_: done < ends[number], at_once)
    assert sum(sizes) == sum(ends.values())
    assert max(sizes) == (at_once or 3)
    for number, (point, steps) in enumerate(together):
        assert steps == ends[number]
        [(alone, _)] = descend(
            lambda z, _, number=number: bowls(z, [number]), START[[number]], until(ends[number])
        )
        torch.testing.assert_close(point, alone)


def test_values_never_rise_within_a_block_and_what_is_not_a_number_is_left():
    """The logarithm is NaN beyond 1, and a long first step leads there."""
    told = []

    def values(latents: Tensor, numbers: list[int]) -> Tensor:
        return -torch.log(1 - latents).flatten(1).sum(1) + latents.square().flatten(1).sum(1)

    def proceed(_number: int, done: int, value: float, latents: Tensor) -> bool:
        told.append((value, latents))
        return done < 5 * BLOCK

    descend(values, torch.linspace(-3, 0.9, 32, dtype=torch.float64).view(1, 2, 4, 4), proceed)
    assert [value for value, _ in told] == sorted((value for value, _ in told), reverse=True)
    assert all(latents.isfinite().all() and (latents < 1).all() for _, latents in told)
    lowest = -(3**0.5 - 1) / 2  # 1 / (1 - z) + 2 z = 0
    assert told[-1][1].mean().item() == pytest.approx(lowest, abs=1e-4)
