"""Half precision that is allowed to fail."""

from typing import Any

import torch


def rescued_at(denoiser: Any) -> set[float]:
    """Timesteps at which the network behind a denoiser had to be asked again, however it is wrapped."""
    while denoiser is not None and not hasattr(denoiser, "rescued"):
        denoiser = getattr(denoiser, "denoiser", None)
    return denoiser.rescued if denoiser else set()


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
