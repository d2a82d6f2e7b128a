"""How much memory a device has left, and how much a backward pass will want."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor


def free_memory(device: torch.device) -> float:
    """Bytes that can still be had on a device; infinite where that can't be told."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    with suppress(OSError, StopIteration):  # Linux, where files in its cache make room when asked to
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024.0 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable:")))
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return float("inf")


def used_memory(device: torch.device) -> float:
    """Bytes in use: on CUDA by torch's tensors, on Linux by the whole process; 0 where that can't be told."""
    if device.type == "cuda":
        return float(torch.cuda.memory_allocated(device))
    return _of_process("VmRSS") or 0.0


def saved_bytes(function: Callable[[Tensor], Tensor], x: Tensor) -> int:
    """Bytes that `function` keeps for its backward pass at x."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = function(x.detach().requires_grad_())
    del result
    return sum(kept.values())


def fitting(device: torch.device, once: Callable[[], object], most: int) -> int:
    """How many times what `once` takes fits into half of a CUDA device's free memory, 1 to `most`; 1
    elsewhere, where nothing is run.
    """
    if device.type != "cuda":
        return 1
    before = torch.cuda.memory_allocated(device)
    reset_peak(device)
    once()
    taken = max(1, torch.cuda.max_memory_allocated(device) - before)
    torch.cuda.empty_cache()
    return max(1, min(most, int(free_memory(device) / 2 // taken)))


def reset_peak(device: torch.device) -> None:
    """Lets `peak_memory` begin anew; does nothing where that can't be."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> float | None:
    """Bytes at the highest since `reset_peak`: on CUDA of torch's tensors, on Linux of the whole process;
    None elsewhere.
    """
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return _of_process("VmHWM")


def _of_process(name: str) -> float | None:
    """Bytes, as Linux tells them of this process; None elsewhere."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024.0 * int(next(line.split()[1] for line in lines if line.startswith(name)))
    return None
