"""How fast inversion is on this machine, beside plain DDIM inversion in diffusers' own loop and the least that T steps can take.

Machines are noisy. What is compared is therefore timed in turns, and a ratio is that of one round, of which the median is told.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import mean, median

import torch
from torch import Tensor

from invrecon.audit.bench import Bench, Clock, Way, count_operations, repeated
from invrecon.core.denoiser import Denoiser
from invrecon.models.memory import peak_memory, reset_peak
from invrecon.pipeline import OnProgress


@dataclass(frozen=True)
class Run:
    """One timed inversion: all of it, the part inside the denoiser, and the latents that went through that."""

    seconds: float
    inside: float
    evaluated: int
    peak: float | None


@dataclass(frozen=True)
class Round:
    """Seconds of one evaluation, of all ways in their order; and operations a second of the matrix product."""

    evaluation: float
    runs: list[Run]
    product: float


@dataclass(frozen=True)
class Speed:
    """How one way did with one size of batch; medians over the rounds.

    Args:
        method: "LBO", "DDIM" (diffusers' own loop), or "floor": T evaluations of the network and nothing else.
        rtol: of LBO.
        seconds: for the batch; `spread` is the slowest less the fastest, as a part of that.
        to_ddim, to_floor: how many times as long it took.
        evaluations_per_step: of one photo.
        overhead: the part of the time that was not spent inside the denoiser, 0 to 1. None where it wasn't measured.
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


class Timed:
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
    bench: Bench, batches: Sequence[int], repeats: int, on_progress: OnProgress | None = None
) -> Iterator[Speed]:
    """The floor and all ways, for each size of batch as soon as it is done."""
    for batch in batches:
        latents = bench.latents[:batch]
        operations = count_operations(bench.denoiser, latents, _middle(bench))
        if bench.warm or batch == batches[0]:
            _round(bench, latents)
        rounds = []
        for done in range(repeats):
            if on_progress:
                on_progress(f"batches of {batch}", done, repeats)
            rounds.append(_round(bench, latents))
        yield from summarise(bench, batch, rounds, operations)


def _middle(bench: Bench) -> float:
    return bench.schedule.timesteps[len(bench.schedule) // 2]


def _round(bench: Bench, latents: Tensor) -> Round:
    """All ways once, single evaluations timed before each."""
    evaluations, runs = [], []
    evaluate = partial(bench.denoiser, latents, _middle(bench))
    evaluate()  # the first is slower than all others
    for way in bench.ways:
        evaluations.append(repeated(evaluate, bench.clock))
        runs.append(_run(way, bench, latents))
    seconds, operations = bench.product(bench.clock)
    return Round(mean(evaluations), runs, operations / seconds)


def _run(way: Way, bench: Bench, latents: Tensor) -> Run:
    timed = Timed(bench.denoiser, bench.clock)
    reset_peak(latents.device)
    begun = bench.clock()
    way.run(timed, latents)
    return Run(bench.clock() - begun, timed.seconds, timed.evaluated, peak_memory(latents.device))


def summarise(bench: Bench, batch: int, rounds: Sequence[Round], operations: float) -> list[Speed]:
    """The figures that follow from the rounds: one for the floor, one for each way.

    Args:
        operations: floating-point operations of one evaluation.
    """
    steps = len(bench.schedule)
    floors = [steps * each.evaluation for each in rounds]
    ddims = [each.runs[0].seconds for each in rounds]
    speeds = [
        replace(
            _speed("floor", None, batch, floors, ddims, floors),
            tflops=median(operations / each.evaluation for each in rounds) / 1e12,
            product_share=median(operations / each.evaluation / each.product for each in rounds),
        )
    ]
    for index, way in enumerate(bench.ways):
        runs = [each.runs[index] for each in rounds]
        speed = _speed(way.name, way.rtol, batch, [run.seconds for run in runs], ddims, floors)
        peaks = [run.peak for run in runs if run.peak is not None]
        speed = replace(speed, peak_bytes=max(peaks, default=None))
        if runs[0].evaluated:
            overhead = median(1 - run.inside / run.seconds for run in runs)
            speed = replace(speed, overhead=overhead, evaluations_per_step=runs[0].evaluated / batch / steps)
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
