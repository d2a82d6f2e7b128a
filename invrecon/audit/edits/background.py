"""PIE-Bench's metrics of one edit, as its own evaluation defines them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL.Image import Image, fromarray
from torch import Tensor

if TYPE_CHECKING:
    from invrecon.models.judges import Clip, Dino, Lpips


@dataclass(frozen=True)
class Judges:
    """Networks that judge edits, each where its weights are at hand."""

    lpips: Lpips | None = None
    clip: Clip | None = None
    dino: Dino | None = None


def judge(
    original: Image, edited: Image, mask: np.ndarray, prompts: tuple[str, str], judges: Judges
) -> dict[str, float | None]:
    """The metrics of an edit against its photo; None where they can't be told.

    Background: both pictures are black inside the mask, and means go over all pixels, those included. There
    is none where the mask covers everything. `psnr` is None where the backgrounds are equal, too.

    Args:
        mask: where the edit may happen, (H, W), bool.
        prompts: before and after.
    """
    outside = None if mask.all() else (~mask)[..., None]
    inside = fromarray(np.asarray(edited.convert("RGB")) * mask[..., None].astype(np.uint8))
    figures: dict[str, float | None] = dict.fromkeys(("psnr", "mse", "ssim", "lpips"))
    if outside is not None:
        figures |= _background(_unit(original, outside), _unit(edited, outside), judges.lpips)
    clip, dino = judges.clip, judges.dino
    return figures | {
        "structure_distance": dino.distance(original, edited) if dino else None,
        "clip_source": clip.score(original, prompts[0]) if clip else None,
        "clip_whole": clip.score(edited, prompts[1]) if clip else None,
        "clip_edited": clip.score(inside, prompts[1]) if clip else None,
    }


def _background(a: Tensor, b: Tensor, lpips: Lpips | None) -> dict[str, float | None]:
    from torchmetrics.functional.image import structural_similarity_index_measure

    mse = (a - b).square().mean().item()
    return {
        "psnr": -10 * math.log10(mse) if mse else None,
        "mse": mse,
        "ssim": float(structural_similarity_index_measure(a, b, data_range=1.0)),
        "lpips": lpips.distance(2 * a - 1, 2 * b - 1) if lpips else None,
    }


def _unit(picture: Image, where: np.ndarray) -> Tensor:
    """(1, 3, H, W) in [0, 1], 0 elsewhere."""
    pixels = np.asarray(picture.convert("RGB"), np.float32) / 255 * where
    return torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]
