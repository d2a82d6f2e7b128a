"""A coarse mask drawn by the picture's colours, then along its edges (guided image filtering,
doi:10.1109/TPAMI.2012.213, section 3.5).
"""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

BINS = 12  # levels of each channel by which colours are told apart


def by_colour(mask: Tensor, picture: Tensor) -> Tensor:
    """A mask (1, 1, H, W) of the colours that lie inside one more than outside of it: 0 or 1, the same for
    all pixels of a colour, as in the first step of GrabCut (doi:10.1145/1015706.1015720) with a histogram.

    So patches of a plain ground that a coarse mask misses are found, however wide they are.

    Args:
        picture: (1, 3, H, W) in [-1, 1].
    """
    levels = ((picture.clamp(-1, 1) / 2 + 0.5) * BINS).long().clamp(max=BINS - 1)[0]
    colours = (levels[0] * BINS + levels[1]) * BINS + levels[2]
    inside = torch.bincount(colours.flatten(), mask.flatten(), BINS**3)
    share = inside / torch.bincount(colours.flatten(), minlength=BINS**3).clamp(min=1)
    return (share[colours] > 0.5).to(mask)[None, None]


def along_edges(mask: Tensor, picture: Tensor) -> Tensor:
    """A mask (1, 1, H, W) in [0, 1] whose border lies on edges of the picture (1, 3, H, W) in [-1, 1], with a
    narrow soft seam.
    """
    filtered = guided_filter(picture.clamp(-1, 1) / 2 + 0.5, mask, radius=picture.shape[-1] // 4, eps=1e-3)
    return (4 * filtered - 1.5).clamp(0, 1)


def guided_filter(guide: Tensor, mask: Tensor, radius: int, eps: float) -> Tensor:
    """Inside every window of the picture the mask becomes a linear function of the colours,

        a = (Σ + eps U)⁻¹ cov(I, m),   b = mean(m) - aᵀ mean(I),   q = mean(a)ᵀ I + mean(b),

    Σ the colours' covariance in the window, U the unit matrix.

    Args:
        guide: I, the picture, (1, 3, H, W) in [0, 1].
        mask: m, (1, 1, H, W) in [0, 1].
        radius: windows have 2 radius + 1 pixels a side.
        eps: variances well below it count as flat.

    Returns:
        q, (1, 1, H, W), clamped to [0, 1].
    """

    def mean(values: Tensor) -> Tensor:
        edge = (radius,) * 4
        return avg_pool2d(pad(values, edge, mode="replicate"), 2 * radius + 1, stride=1)

    colour, level = mean(guide), mean(mask)
    products = (guide[:, :, None] * guide[:, None]).flatten(1, 2)
    spread = mean(products) - (colour[:, :, None] * colour[:, None]).flatten(1, 2)
    sigma = spread.unflatten(1, (3, 3)).permute(0, 3, 4, 1, 2) + eps * torch.eye(3).to(guide)
    shared = (mean(guide * mask) - colour * level).permute(0, 2, 3, 1)
    slope = torch.linalg.solve(sigma, shared).permute(0, 3, 1, 2)
    offset = level - (slope * colour).sum(1, keepdim=True)
    return ((mean(slope) * guide).sum(1, keepdim=True) + mean(offset)).clamp(0, 1)
