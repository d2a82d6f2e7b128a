"""Half precision that is allowed to fail."""

from typing import Any

import torch
from torch import Tensor

from invrecon.core.denoiser import ConditionalDenoiser
from invrecon.models.quiet import quiet


def rescued_at(denoiser: Any) -> set[float]:
    """Timesteps at which the network behind a denoiser had to be asked again, however it is wrapped."""
    while denoiser is not None and not hasattr(denoiser, "rescued"):
        denoiser = getattr(denoiser, "denoiser", None)
    return denoiser.rescued if denoiser else set()


class Rescued:
    """A denoiser whose network runs in half precision: for samples whose output isn't finite, though their
    latents are, it is asked again in float32. The weights are there and back again without a loss, since
    every half is a float32. Weights that are offloaded one by one (`--offload sequential`) can't be turned
    so.

    Args:
        denoiser: u(z, t, c), which runs `network` in the network's own dtype.
        network: its weights.
    """

    def __init__(self, denoiser: ConditionalDenoiser, network: torch.nn.Module) -> None:
        self.denoiser = denoiser
        self.network = network
        self.rescued: set[float] = set()
        """Timesteps where that was so, for any sample."""

    def __call__(self, latents: Tensor, timestep: float, condition: Tensor) -> Tensor:
        output = self.denoiser(latents, timestep, condition)
        weight = next(self.network.parameters())
        dtype = weight.dtype
        if weight.is_meta or dtype == torch.float32:
            return output
        lost = latents.isfinite().flatten(1).all(1) & ~output.isfinite().flatten(1).all(1)
        if not bool(lost.any()):
            return output
        self.rescued.add(timestep)
        try:
            self._turn(torch.float32)
            again = self.denoiser(latents, timestep, condition)
            return again if again.requires_grad else torch.where(lost.view(-1, 1, 1, 1), again, output)
        finally:
            self._turn(dtype)

    def _turn(self, dtype: torch.dtype) -> None:
        with quiet():
            self.network.to(dtype)


def decoder_dtype(choice: str, device: torch.device) -> torch.dtype | None:
    """The dtype of boosting's passes through the decoder; None for the decoder's own.

    Args:
        choice: "float32", "bfloat16", or "auto": bfloat16 where the device has instructions for it.
    """
    if choice == "auto":
        choice = "bfloat16" if _computes_in_bfloat16(device) else "float32"
    return torch.bfloat16 if choice == "bfloat16" else None


def _computes_in_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    has_instructions = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return device.type == "cpu" and bool(has_instructions())
