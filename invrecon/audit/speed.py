"""How fast inversion is on this machine, beside plain DDIM inversion in diffusers' own loop and the least that T steps can take.

Machines are noisy. What is compared is therefore timed in turns, and a ratio is that of one round, of which the median is told.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from invrecon.config import Settings
from invrecon.core import lbo
from invrecon.core.denoiser import Denoiser
from invrecon.core.sampling import generate
from invrecon.core.schedule import Schedule
from invrecon.image import load_photo, plan_canvas, to_tensor
from invrecon.models.memory import peak_memory, reset_peak
from invrecon.models.stock import ddim_inversion
from invrecon.pipeline import OnProgress
from invrecon.pipeline.inversion import sampler

if TYPE_CHECKING:
    from invrecon.models import Model

Clock = Callable[[], float]
"""Seconds, once the device has done all it was told to do."""

EVALUATIONS = 5  # in a row, when one is timed


@dataclass(frozen=True)
class Way:
    """A way of inversion: its name, LBO's tolerance, and the work itself."""

    name: str
    rtol: float | None
    run: Callable[[Denoiser, Tensor], object]


@dataclass(frozen=True)
class Bench:
    """What is timed, and by what.

    Args:
        latents: image latents of the largest batch, (B, C, h, w).
        product: seconds that a large matrix product takes, and its floating-point operations.
        warm: whether the first round with a batch of some size is slower than all later ones, and isn't to count.
    """

    denoiser: Denoiser
    schedule: Schedule
    latents: Tensor
    ways: Sequence[Way]
    clock: Clock
    product: Callable[[Clock], tuple[float, float]]
    warm: bool = False


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


def make_bench(model: Model, settings: Settings, photos: Sequence[Path], largest: int) -> Bench:
    """A bench for DDIM inversion and for LBO to 1e-3 and to `settings.rtol`.

    Args:
        photos: are repeated until there are `largest` of them; without any, pictures are drawn from noise.

    Raises:
        InputError: a photo can't be used.
        UsageError, ModelError: the settings don't fit the model, or it has no DDIM steps.
    """
    settings = replace(settings, sampler="ddim" if hasattr(model.scheduler, "alphas_cumprod") else "auto")
    denoiser, schedule = sampler(model, settings)
    timed_model = model.with_sampler(settings.sampler)
    ways = [Way("DDIM", None, lambda _, latents: ddim_inversion(timed_model, settings, latents))]
    for rtol in dict.fromkeys((1e-3, settings.rtol)):
        ways.append(Way("LBO", rtol, partial(_lbo, schedule, rtol)))
    if photos:
        latents = torch.cat([_encode(photo, model, settings) for photo in photos])
        latents = torch.stack(list(islice(cycle(latents), largest)))
    else:
        side = settings.size // model.downsampling
        noise = torch.randn(largest, model.latent_channels, side, side, generator=torch.Generator().manual_seed(settings.seed))
        latents = torch.cat([generate(denoiser, schedule, one) for one in noise.to(model.device).split(1)])
    kind = torch.bfloat16 if model.device.type == "cuda" else model.dtype
    product = partial(time_product, model.device, kind)
    return Bench(denoiser, schedule, latents, ways, make_clock(model.device), product, model.compiled or model.device.type != "cpu")


def _lbo(schedule: Schedule, rtol: float, denoiser: Denoiser, latents: Tensor) -> None:
    lbo.invert(denoiser, schedule, latents, rtol=rtol)


def _encode(photo: Path, model: Model, settings: Settings) -> Tensor:
    rgb = load_photo(photo).rgb
    return model.encode(to_tensor(plan_canvas(rgb.size, settings.size, settings.fit).place(rgb)).to(model.device))


def make_clock(device: torch.device) -> Clock:
    """A clock that waits for the device."""

    def clock() -> float:
        if device.type != "cpu":
            torch.accelerator.synchronize()
        return time.perf_counter()

    return clock


def time_product(device: torch.device, dtype: torch.dtype, clock: Clock) -> tuple[float, float]:
    """Seconds and floating-point operations of the product of two square matrices, large enough to keep the device busy."""
    side = 1024 if device.type == "cpu" else 8192
    a, b = torch.randn(2, side, side, device=device, dtype=dtype)
    return _repeated(lambda: a @ b, clock), 2.0 * side**3


def _repeated(work: Callable[[], object], clock: Clock) -> float:
    """Seconds of one of several in a row."""
    begun = clock()
    for _ in range(EVALUATIONS):
        work()
    return (clock() - begun) / EVALUATIONS


@torch.no_grad()
def measure(bench: Bench, batches: Sequence[int], repeats: int, on_progress: OnProgress | None = None) -> Iterator[Speed]:
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


def count_operations(denoiser: Denoiser, latents: Tensor, timestep: float) -> float:
    """Floating-point operations of one evaluation; attention is taken apart, since the counter knows no fused kernels on CPUs."""
    with sdpa_kernel(SDPBackend.MATH), torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False) as counter:
        denoiser(latents, timestep)
    return float(counter.get_total_flops())


def _middle(bench: Bench) -> float:
    return bench.schedule.timesteps[len(bench.schedule) // 2]


def _round(bench: Bench, latents: Tensor) -> Round:
    """All ways once, single evaluations timed before each."""
    evaluations, runs = [], []
    evaluate = partial(bench.denoiser, latents, _middle(bench))
    evaluate()  # the first is slower than all others
    for way in bench.ways:
        evaluations.append(_repeated(evaluate, bench.clock))
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


def _speed(name: str, rtol: float | None, batch: int, seconds: list[float], ddims: list[float], floors: list[float]) -> Speed:
    def ratio(others: list[float]) -> float:
        return median(one / other for one, other in zip(seconds, others, strict=True))

    typical = median(seconds)
    spread = (max(seconds) - min(seconds)) / typical if typical else math.nan
    return Speed(batch, name, rtol, typical, spread, batch / typical, ratio(ddims), ratio(floors), evaluations_per_step=1.0)
