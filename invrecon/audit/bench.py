"""What is timed when speed is measured: the network, the ways of inversion, and a matrix product to hold them against."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from invrecon.core import lbo
from invrecon.core.denoiser import Denoiser
from invrecon.core.sampling import generate
from invrecon.core.schedule import Schedule
from invrecon.errors import UsageError
from invrecon.image import load_photo, plan_canvas, to_tensor
from invrecon.models.stock import ddim_inversion
from invrecon.settings import Effort, Settings

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


def make_bench(model: Model, settings: Settings, photos: Sequence[Path], largest: int) -> Bench:
    """A bench for DDIM inversion and for LBO to 1e-3 and to `settings.rtol`.

    Args:
        photos: are repeated until there are `largest` of them; without any, pictures are drawn from noise.

    Raises:
        InputError: a photo can't be used.
        UsageError, ModelError: the settings don't fit the model, or it has no DDIM steps.
    """
    if not hasattr(model.pipeline.scheduler, "alphas_cumprod"):
        raise UsageError(
            f"speed is measured beside DDIM inversion, and {model.name} is a model of flow matching, which has none"
        )
    width, height = settings.exact_size or (int(settings.size),) * 2
    recipe = replace(settings, sampler="ddim").recipe(width, height)
    denoiser, schedule = model.denoiser(recipe), model.schedule(recipe)
    ways = [Way("DDIM", None, lambda _, latents: ddim_inversion(model, recipe, latents))]
    ways += [
        Way("LBO", rtol, partial(_lbo, schedule, rtol, denoiser.rounding))
        for rtol in dict.fromkeys((1e-3, settings.rtol))
    ]
    if photos:
        encoded = cycle([_encode(photo, model, settings) for photo in photos])
        latents = torch.cat(list(islice(encoded, largest)))
    else:
        grid = height // model.downsampling, width // model.downsampling
        noise = torch.randn(
            largest, model.latent_channels, *grid, generator=torch.Generator().manual_seed(settings.seed)
        )
        latents = torch.cat([generate(denoiser, schedule, one) for one in noise.to(model.device).split(1)])
    product = partial(
        time_product, model.device, torch.bfloat16 if model.device.type == "cuda" else model.dtype
    )
    return Bench(
        denoiser,
        schedule,
        latents,
        ways,
        make_clock(model.device),
        product,
        model.compiled or model.device.type != "cpu",
    )


def _lbo(schedule: Schedule, rtol: float, precision: float, denoiser: Denoiser, latents: Tensor) -> None:
    lbo.invert(denoiser, schedule, latents, Effort(rtol=rtol), precision=precision)


def _encode(photo: Path, model: Model, settings: Settings) -> Tensor:
    size = settings.exact_size or (int(settings.size),) * 2
    rgb = load_photo(photo).rgb
    return model.encode(to_tensor(plan_canvas(rgb.size, size, settings.fit).place(rgb)).to(model.device))


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
    return repeated(lambda: a @ b, clock), 2.0 * side**3


def repeated(work: Callable[[], object], clock: Clock) -> float:
    """Seconds of one of several in a row."""
    begun = clock()
    for _ in range(EVALUATIONS):
        work()
    return (clock() - begun) / EVALUATIONS


def count_operations(denoiser: Denoiser, latents: Tensor, timestep: float) -> float:
    """Floating-point operations of one evaluation; attention is taken apart, since the counter knows no fused kernels on CPUs."""
    with (
        sdpa_kernel(SDPBackend.MATH),
        torch.compiler.set_stance("force_eager"),
        FlopCounterMode(display=False) as counter,
    ):
        denoiser(latents, timestep)
    return float(counter.get_total_flops())
