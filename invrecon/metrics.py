"""How close two pictures, or two latents, are."""

import math
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

_ALEXNET = "alexnet-owt-7be5be79.pth"


def psnr(a: Image.Image, b: Image.Image, where: Image.Image | None = None) -> float:
    """Peak signal-to-noise ratio of 8-bit pictures of one size, dB; infinite where they are equal.

    10 log10(255² / mean((a - b)²)) over all pixels and channels; with `where` (mode L, of the same size, not
    all black), weighed by it.
    """
    difference = np.asarray(a.convert("RGB"), np.float64) - np.asarray(b.convert("RGB"), np.float64)
    weights = None if where is None else np.asarray(where, np.float64)
    error = float(np.average((difference**2).mean(-1), weights=weights))
    return 10 * math.log10(255**2 / error) if error else math.inf


def ssim(a: Image.Image, b: Image.Image) -> float:
    """Structural similarity in [-1, 1] of 8-bit pictures of one size, mean over pixels and colours.

    The standard setting: Gaussian window of 11 pixels and sigma 1.5 (Wang et al. 2004,
    doi:10.1109/TIP.2003.819861).
    """
    import torch
    from torchmetrics.functional.image import structural_similarity_index_measure

    x, y = (
        torch.from_numpy(np.array(im.convert("RGB"))).permute(2, 0, 1)[None].double() / 255 for im in (a, b)
    )
    return float(structural_similarity_index_measure(x, y, data_range=1.0))


def lpips(a: Image.Image, b: Image.Image) -> float | None:
    """Learned perceptual distance (arXiv:1801.03924, AlexNet), lower is closer; None where its weights aren't
    on the machine.

    Needs torchvision and its AlexNet weights in torch's cache; nothing is downloaded.
    """
    import torch

    if (
        find_spec("torchvision") is None
        or not (Path(torch.hub.get_dir()) / "checkpoints" / _ALEXNET).exists()
    ):
        return None
    from torchmetrics.functional.image import learned_perceptual_image_patch_similarity

    x, y = (
        torch.from_numpy(np.array(im.convert("RGB"))).permute(2, 0, 1)[None].float() / 255 for im in (a, b)
    )
    return float(learned_perceptual_image_patch_similarity(x, y, net_type="alex", normalize=True))


def dissimilarity(a: Tensor, b: Tensor) -> Tensor:
    """1 - SSIM of pictures (B, 3, H, W) in [-1, 1]; in [0, 2], differentiable."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    value = structural_similarity_index_measure(a, b, data_range=2.0)
    assert isinstance(value, Tensor)  # a tuple only where it is asked for more
    return 1 - value


def latent_fidelity(reference: Tensor, latents: Tensor) -> float:
    """10 log10(‖z_0‖² / ‖z - z_0‖²), dB; infinite where they are equal, NaN where `latents` is not finite."""
    x, y = reference.cpu().double(), latents.cpu().double()
    error, signal = (y - x).square().sum().item(), x.square().sum().item()
    return (
        10 * math.log10(signal / error) if error > 0 and signal > 0 else math.inf if error == 0 else math.nan
    )
