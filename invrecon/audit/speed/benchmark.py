"""What is timed when speed is measured: the network, the methods, and a matrix product beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from invrecon.audit.speed.clock import Clock, make_clock, time_product
from invrecon.core import lbo
from invrecon.core.denoiser import Denoiser
from invrecon.core.sampler import Sampler
from invrecon.core.schedule import Schedule
from invrecon.errors import UsageError
from invrecon.models.stock import ddim_inversion
from invrecon.pipeline.subject import find_subject
from invrecon.settings import Effort, Settings

if TYPE_CHECKING:
    from invrecon.models import Model


@dataclass(frozen=True)
class TimedMethod:
    """A method of inversion that is timed.

    Args:
        rtol: of LBO, else None.
        run: inverts image latents, (B, C, h, w), with a denoiser.
    """

    name: str
    rtol: float | None
    run: Callable[[Denoiser, Tensor], object]


@dataclass(frozen=True)
class Benchmark:
    """What is timed, and by what.

    Args:
        latents: image latents of the largest batch, (B, C, h, w).
        product: seconds that a large matrix product takes, and its floating-point operations.
        discards_first: whether the first round of each size of batch is slower, and isn't to count.
    """

    denoiser: Denoiser
    schedule: Schedule
    latents: Tensor
    methods: Sequence[TimedMethod]
    clock: Clock
    product: Callable[[Clock], tuple[float, float]]
    discards_first: bool = False


def make_benchmark(model: Model, settings: Settings, photos: Sequence[Path], largest: int) -> Benchmark:
    """A benchmark of DDIM inversion and of LBO to 1e-3 and to `settings.rtol`.

    Args:
        photos: are repeated until there are `largest` of them; without any, pictures are drawn from noise.

    Raises:
        InputError: a photo can't be used.
        UsageError, ModelError: the settings don't fit the model, or it has no DDIM steps.
    """
    if not hasattr(model.pipeline.scheduler, "alphas_cumprod"):
        raise UsageError(
            f"speed is measured beside DDIM inversion, and {model.name} is a model of flow matching, which "
            "has none"
        )
    width, height = settings.exact_size or (int(settings.size),) * 2
    settings = replace(settings, size=f"{width}x{height}", fit="crop")  # all photos of a batch have one size
    recipe = replace(settings.recipe(width, height), sampler="ddim")
    sampler = model.sampler(recipe)
    methods = [TimedMethod("DDIM", None, lambda _, latents: ddim_inversion(model, recipe, latents))]
    for rtol in dict.fromkeys((1e-3, settings.rtol)):
        methods.append(TimedMethod("LBO", rtol, partial(_invert, sampler, rtol)))
    on_cuda = model.device.type == "cuda"
    return Benchmark(
        sampler.denoiser,
        sampler.schedule,
        _encoded(photos, model, settings, largest) if photos else _drawn(sampler, model, settings, largest),
        methods,
        make_clock(model.device),
        partial(time_product, model.device, torch.bfloat16 if on_cuda else model.dtype),
        discards_first=model.compiled or model.device.type != "cpu",
    )


def _invert(sampler: Sampler, rtol: float, denoiser: Denoiser, latents: Tensor) -> None:
    """LBO in one attempt, through a denoiser that is timed."""
    precision = sampler.denoiser.rounding
    lbo.invert(denoiser, sampler.schedule, latents, Effort(rtol=rtol), precision=precision)


def _encoded(photos: Sequence[Path], model: Model, settings: Settings, count: int) -> Tensor:
    """Image latents of photos, taken in turn."""
    latents = [find_subject(photo, model, settings).encoded for photo in photos]
    return torch.cat(list(islice(cycle(latents), count)))


def _drawn(sampler: Sampler, model: Model, settings: Settings, count: int) -> Tensor:
    """Image latents that the model generates from noise."""
    shape = [side // model.downsampling for side in settings.exact_size or ()][::-1]
    generator = torch.Generator().manual_seed(settings.seed)
    noise = torch.randn(count, model.latent_channels, *shape, generator=generator)
    return torch.cat([sampler.generate(one) for one in noise.to(model.device).split(1)])
