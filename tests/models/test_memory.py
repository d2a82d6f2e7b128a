"""What a run takes of a device's memory, how many photos fit into it, and in what precision."""

import re
import time

import pytest
import torch

from invrecon.models.load import pick_dtype
from invrecon.models.memory import fitting, peak_memory, reset_peak, used_memory
from invrecon.pipeline import memory_line
from invrecon.settings import Settings


def test_automatic_batches_are_of_one_photo_where_there_is_no_cuda_and_nothing_is_run_to_find_out():
    assert fitting(torch.device("cpu"), lambda: pytest.fail("was run"), 16) == 1


def test_memory_decides_on_cuda(monkeypatch):
    """Half of 24 GB free, where one evaluation takes 2 GB beyond the weights: 6."""
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 3e9)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 5e9)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (24e9, 80e9))
    for most, size in ((16, 6), (4, 4)):
        assert fitting(torch.device("cuda"), time.monotonic, most) == size


def test_the_line_on_memory_tells_what_a_pass_through_the_decoder_takes(mini):
    line = memory_line(mini, Settings(size=512))
    told, used = (float(number) for number in re.findall(r"([\d.]+)(?: GB,| of them)", line))
    assert re.fullmatch(r"memory on cpu: about .* of them in use; [\d.]+ GB are free", line)
    latents = torch.zeros(1, mini.latent_channels, 64, 64, requires_grad=True)
    before = used_memory(mini.device)
    reset_peak(mini.device)
    mini.decode(latents).sum().backward()
    taken = (peak_memory(mini.device) - before) / 1e9
    assert 0.5 * taken - 0.1 < told - used < 2 * taken + 0.1  # both are told to a tenth


def test_the_automatic_dtype_is_a_half_on_cuda_and_float32_elsewhere(monkeypatch):
    for capability, dtype in (((8, 0), "bfloat16"), ((7, 5), "float16")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, found=capability: found)
        assert pick_dtype("auto", torch.device("cuda")) == dtype
    assert pick_dtype("auto", torch.device("cpu")) == "float32"
    assert pick_dtype("float16", torch.device("cpu")) == "float16"
