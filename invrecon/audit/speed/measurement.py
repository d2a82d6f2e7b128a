"""How fast inversion is beside DDIM inversion in diffusers' own loop and beside T bare evaluations.

Machines are noisy, so methods are timed in turns: a ratio is taken within a round, and its median over the
rounds is reported.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import mean, median

import torch
from torch import Tensor

from invrecon.audit.speed.benchmark import Benchmark, TimedMethod
from invrecon.audit.speed.clock import Clock, count_operations, seconds_of
from invrecon.core.denoiser import Denoiser
from invrecon.models.memory import peak_memory, reset_peak
from invrecon.pipeline import OnProgress


@dataclass(frozen=True)
class Timing:
    """One timed inversion.

    Args:
        seconds: in all; `inside` the denoiser alone.
        evaluated: latents that went through the denoiser.
        peak: bytes, see `models.memory.peak_memory`.
    """

    seconds: float
    inside: float
    evaluated: int
    peak: float | None


@dataclass(frozen=True)
class Round:
    """All methods once.

    Args:
        evaluation: seconds of one evaluation.
        timings: of the methods, in their order.
        product: operations a second of the matrix product.
    """

    evaluation: float
    timings: list[Timing]
    product: float


@dataclass(frozen=True)
class Speed:
    """How one method did with one size of batch; medians over the rounds.

    Args:
        method: "LBO", "DDIM" (diffusers' own loop), or "floor": T evaluations of the network and nothing
            else.
        rtol: of LBO.
        seconds: for the batch; `spread` is the slowest less the fastest, as a part of that.
        to_ddim, to_floor: how many times as long it took.
        evaluations_per_step: of one photo.
        overhead: the part of the time that was not spent inside the denoiser, 0 to 1. None where it wasn't
            measured.
        peak_bytes: see `models.memory.peak_memory`.
        tflops: of the floor: 10^12 floating-point operations a second of the denoiser.
        product_share: that, as a part of what a large matrix product reaches.
    """

    batch: int
    method: str
    rtol: float | None
    seconds: float
    spread: float
    photos_per_second: float
    to_ddim: float
    to_floor: float
    evaluations_per_step: float
    overhead: float | None = None
    peak_bytes: float | None = None
    tflops: float | None = None
    product_share: float | None = None


class TimedDenoiser:
    """A denoiser that adds up the seconds spent inside it and the latents that went through it."""

    def __init__(self, denoiser: Denoiser, clock: Clock) -> None:
        self.denoiser = denoiser
        self.clock = clock
        self.seconds = 0.0
        self.evaluated = 0

    def __call__(self, latents: Tensor, timestep: float) -> Tensor:
        begun = self.clock()
        noise = self.denoiser(latents, timestep)
        self.seconds += self.clock() - begun
        self.evaluated += len(latents)
        return noise


@torch.no_grad()
def measure(
    benchmark: Benchmark, batches: Sequence[int], repeats: int, on_progress: OnProgress | None = None
) -> Iterator[Speed]:
    """The floor and all methods, for each size of batch as soon as it is done."""
    for batch in batches:
        latents = benchmark.latents[:batch]
        operations = count_operations(benchmark.denoiser, latents, _middle(benchmark))
        if benchmark.discards_first or batch == batches[0]:
            _round(benchmark, latents)
        rounds = []
        for done in range(repeats):
            if on_progress:
                on_progress(f"batches of {batch}", done, repeats)
            rounds.append(_round(benchmark, latents))
        yield from speeds_of(benchmark, batch, rounds, operations)


def _middle(benchmark: Benchmark) -> float:
    return benchmark.schedule.timesteps[len(benchmark.schedule) // 2]


def _round(benchmark: Benchmark, latents: Tensor) -> Round:
    """All methods once, single evaluations timed before each."""
    evaluations, timings = [], []
    evaluate = partial(benchmark.denoiser, latents, _middle(benchmark))
    evaluate()  # the first is slower than all others
    for method in benchmark.methods:
        evaluations.append(seconds_of(evaluate, benchmark.clock))
        timings.append(_time(method, benchmark, latents))
    seconds, operations = benchmark.product(benchmark.clock)
    return Round(mean(evaluations), timings, operations / seconds)


def _time(method: TimedMethod, benchmark: Benchmark, latents: Tensor) -> Timing:
    timed = TimedDenoiser(benchmark.denoiser, benchmark.clock)
    reset_peak(latents.device)
    begun = benchmark.clock()
    method.run(timed, latents)
    return Timing(benchmark.clock() - begun, timed.seconds, timed.evaluated, peak_memory(latents.device))


def speeds_of(benchmark: Benchmark, batch: int, rounds: Sequence[Round], operations: float) -> list[Speed]:
    """The figures that follow from the rounds: one for the floor, one for each method.

    Args:
        operations: floating-point operations of one evaluation.
    """
    steps = len(benchmark.schedule)
    floors = [steps * each.evaluation for each in rounds]
    ddims = [each.timings[0].seconds for each in rounds]
    speeds = [
        replace(
            _speed("floor", None, batch, floors, ddims, floors),
            tflops=median(operations / each.evaluation for each in rounds) / 1e12,
            product_share=median(operations / each.evaluation / each.product for each in rounds),
        )
    ]
    for index, method in enumerate(benchmark.methods):
        timings = [each.timings[index] for each in rounds]
        speed = _speed(method.name, method.rtol, batch, [each.seconds for each in timings], ddims, floors)
        peaks = [each.peak for each in timings if each.peak is not None]
        speed = replace(speed, peak_bytes=max(peaks, default=None))
        if evaluated := timings[0].evaluated:
            overhead = median(1 - each.inside / each.seconds for each in timings)
            speed = replace(speed, overhead=overhead, evaluations_per_step=evaluated / batch / steps)
        speeds.append(speed)
    return speeds


def _speed(
    name: str, rtol: float | None, batch: int, seconds: list[float], ddims: list[float], floors: list[float]
) -> Speed:
    def ratio(others: list[float]) -> float:
        return median(one / other for one, other in zip(seconds, others, strict=True))

    typical = median(seconds)
    spread = (max(seconds) - min(seconds)) / typical if typical else math.nan
    return Speed(
        batch,
        name,
        rtol,
        typical,
        spread,
        batch / typical,
        ratio(ddims),
        ratio(floors),
        evaluations_per_step=1.0,
    )
