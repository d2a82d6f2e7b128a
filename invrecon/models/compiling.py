"""Networks turned into programs by torch.compile."""

import torch


def compile_network(network: torch.nn.Module, device: torch.device) -> None:
    """Lets torch.compile make a program of `network` when it is next called; on CUDA one that is replayed as
    a CUDA graph.
    """
    network.compile(mode="reduce-overhead" if device.type == "cuda" else "default")
