"""How many photos fit into a device's memory."""

import time

import pytest
import torch

from invrecon.models.memory import fitting


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
