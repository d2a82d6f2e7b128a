"""Pictures to tensors and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from invrecon.errors import InvreconError

if TYPE_CHECKING:
    import torch


def to_tensor(image: Image.Image) -> torch.Tensor:
    """An image as (1, 3, H, W) float32 in [-1, 1]."""
    import torch  # here, so that files can be looked at before torch is imported

    values = torch.from_numpy(np.array(image.convert("RGB"), np.float32))
    return (values / 127.5 - 1).permute(2, 0, 1)[None].contiguous()


def to_image(pixels: torch.Tensor) -> Image.Image:
    """A tensor as an RGB image, clamped and rounded as diffusers' VaeImageProcessor does.

    Args:
        pixels: (1, 3, H, W) in [-1, 1].

    Raises:
        InvreconError: a value isn't finite.
    """
    if not pixels.isfinite().all():
        raise InvreconError("a picture has values that aren't finite")
    unit = (pixels / 2 + 0.5).clamp(0, 1)
    levels = unit[0].detach().permute(1, 2, 0).float().cpu().numpy() * 255
    return Image.fromarray(levels.round().astype(np.uint8))
