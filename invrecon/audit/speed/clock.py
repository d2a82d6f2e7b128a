"""Seconds and operations: a clock that waits for the device, and what it times."""

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from invrecon.core.denoiser import Denoiser

Clock = Callable[[], float]
"""Seconds, once the device has done all it was told to do."""

EVALUATIONS = 5  # in a row, when one is timed


def make_clock(device: torch.device) -> Clock:
    """A clock that waits for the device."""

    def clock() -> float:
        if device.type != "cpu":
            torch.accelerator.synchronize()
        return time.perf_counter()

    return clock


def time_product(device: torch.device, dtype: torch.dtype, clock: Clock) -> tuple[float, float]:
    """Seconds and floating-point operations of a product of square matrices that keeps the device busy."""
    side = 1024 if device.type == "cpu" else 8192
    a, b = torch.randn(2, side, side, device=device, dtype=dtype)
    return seconds_of(lambda: a @ b, clock), 2.0 * side**3


def seconds_of(work: Callable[[], object], clock: Clock) -> float:
    """Seconds that work takes, the mean of several times in a row."""
    begun = clock()
    for _ in range(EVALUATIONS):
        work()
    return (clock() - begun) / EVALUATIONS


def count_operations(denoiser: Denoiser, latents: Tensor, timestep: float) -> float:
    """Floating-point operations of one evaluation.

    Attention is computed unfused meanwhile, since the counter knows no fused kernels of CPUs.
    """
    with (
        sdpa_kernel(SDPBackend.MATH),
        torch.compiler.set_stance("force_eager"),
        FlopCounterMode(display=False) as counter,
    ):
        denoiser(latents, timestep)
    return float(counter.get_total_flops())
