"""Networks turned into programs by torch.compile."""

import torch
from torch import Tensor

from invrecon.core.denoiser import ConditionalDenoiser
from invrecon.errors import ModelError


def compile_network(network: torch.nn.Module, device: torch.device) -> None:
    """Lets torch.compile make a program of `network` when it is next called; on CUDA one that is replayed as
    a CUDA graph.
    """
    network.compile(mode="reduce-overhead" if device.type == "cuda" else "default")


class Compiled:
    """A denoiser whose network compiles at its first call, and may fail to.

    Args:
        denoiser: u(z, t, c).
    """

    def __init__(self, denoiser: ConditionalDenoiser) -> None:
        self.denoiser = denoiser

    def __call__(self, latents: Tensor, timestep: float, condition: Tensor) -> Tensor:
        """u(z, t, c). Raises ModelError where the network can't be compiled here."""
        from torch._dynamo.exc import TorchDynamoException

        try:
            return self.denoiser(
                latents, timestep, condition
            ).clone()  # the next call of a CUDA graph would write over it
        except TorchDynamoException as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ModelError(
                f"torch can't compile the network here ({reason:.200}): leave out --compile"
            ) from error
