"""Where an edit may happen: a mask that the user draws, or one from the attention to the changed words."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, interpolate, pad

from invrecon.core.denoiser import Denoiser
from invrecon.core.editing.attention import Attention, Heads, Site
from invrecon.core.editing.words import Things
from invrecon.core.schedule import Schedule
from invrecon.core.transition import transitions

PROBES = 10  # steps at which the attention is looked at


class WordMaps:
    """How much attention each place of the picture pays to some tokens; a watcher that changes nothing.

    Args:
        spans: P of them, each the tokens of one word.
        shape: (h, w) of the maps. Layers whose places don't form such a picture, scaled down, are left out.
    """

    def __init__(self, spans: Sequence[range], shape: tuple[int, int]) -> None:
        self.spans, self.shape = spans, shape
        self.total = torch.zeros(len(spans), 1, *shape)

    def __call__(self, site: Site, heads: Heads) -> Tensor:
        places = heads.query.shape[-2]
        scale = math.sqrt(self.shape[0] * self.shape[1] / places)
        rows, columns = round(self.shape[0] / scale), round(self.shape[1] / scale)
        if site.cross and rows * columns == places:
            probabilities = heads.last().probabilities()[0].float().mean(0).cpu()  # (N, L)
            maps = torch.stack([probabilities[:, list(span)].mean(-1) for span in self.spans]).reshape(
                -1, 1, rows, columns
            )
            self.total += interpolate(
                maps / maps.mean((-2, -1), keepdim=True), self.shape, mode="bilinear", align_corners=False
            )
        return heads.attend()


@torch.no_grad()
def attention_mask(
    branches: Sequence[tuple[Denoiser, Things]],
    schedule: Schedule,
    trajectory: Sequence[Tensor],
    attention: Attention,
    threshold: float | None = None,
) -> Tensor:
    """A mask over the source trajectory, from the cross-attention to the things that the two prompts name.

    Maps are means over layers, heads and ten of the steps, smoothed, from 0 to 1. The one that parts the
    picture most clearly decides: that of what changes, above the threshold, or that of what is kept, below
    it. (Attention to "background" is often spread thin, while that to the thing in front of it is sharp.)

    Args:
        branches: denoisers under the source and the target prompt, with what each names.
        threshold: in [0, 1]; None for the one that parts the map best (Otsu's,
            doi:10.1109/TSMC.1979.4310076).

    Returns:
        (1, 1, h, w) in [0, 1] on the trajectory's device; 1 everywhere where no thing changes.
    """
    shape = (trajectory[0].shape[-2], trajectory[0].shape[-1])
    found: list[tuple[float, Tensor]] = []
    if not any(things.changed for _, things in branches):
        return torch.ones(1, 1, *shape, device=trajectory[0].device)
    for denoiser, things in branches:
        maps = word_maps(denoiser, [*things.changed, *things.kept], schedule, trajectory, attention, shape)
        for part, sign in ((maps[: len(things.changed)], 1), (maps[len(things.changed) :], -1)):
            if len(part):
                level = part.amax(0, keepdim=True)
                best, clarity = otsu(level)
                found.append(
                    (clarity, (sign * (level - (best if threshold is None else threshold)) > 0).float())
                )
    mask = max(found, key=lambda pair: pair[0])[1]
    return _smooth(mask).to(trajectory[0].device)


def word_maps(
    denoiser: Denoiser,
    spans: Sequence[range],
    schedule: Schedule,
    trajectory: Sequence[Tensor],
    attention: Attention,
    shape: tuple[int, int],
) -> Tensor:
    """One map for each span, (P, 1, h, w), from 0 to 1."""
    attention.watcher = found = WordMaps(spans, shape)
    try:
        steps = list(zip(transitions(denoiser, schedule), trajectory[:-1], strict=True))
        for transition, latents in steps[:: math.ceil(len(steps) / PROBES)]:
            transition.denoiser(latents, transition.timestep)
    finally:
        attention.watcher = None
    return _stretched(_smooth(found.total))


@torch.no_grad()
def difference_mask(
    source: Denoiser,
    target: Denoiser,
    schedule: Schedule,
    trajectory: Sequence[Tensor],
    threshold: float | None = None,
) -> Tensor:
    """A mask from what two prompts predict for the same latents (DiffEdit, arXiv:2210.11427, section 3.2):

        m = sum over steps k of  M_k / mean(M_k),    M_k = mean over channels of |u_target - u_source|(z_k)

    smoothed and from 0 to 1, then above the threshold. DiffEdit looks at one noise level, half-way, with ten
    noises; here up to ten of the first half of the steps are looked at. (With two cut-outs
    on `mini` the first third of 15 steps found all of the changed ground, the last third half of it.)

    Args:
        source, target: under the two prompts, without guidance.
        trajectory: latents at each step, T of them or more, (1, C, h, w).
        threshold: in [0, 1]; None for Otsu's.

    Returns:
        (1, 1, h, w) in [0, 1] on the trajectory's device; 1 everywhere where nothing differs.
    """
    pairs = zip(transitions(source, schedule), transitions(target, schedule), trajectory, strict=False)
    steps = list(pairs)[: math.ceil(len(schedule) / 2)]
    total = torch.zeros_like(trajectory[0][:, :1])
    for ours, theirs, latents in steps[:: math.ceil(len(steps) / PROBES)]:
        gap = theirs.denoiser(latents, theirs.timestep) - ours.denoiser(latents, ours.timestep)
        level = gap.abs().mean(1, keepdim=True)
        total += level / level.mean().clamp(min=1e-12)
    if not total.any():
        return torch.ones_like(total)
    level = _stretched(_smooth(total))
    return _smooth((level > (otsu(level.cpu())[0] if threshold is None else threshold)).to(total))


def otsu(values: Tensor) -> tuple[float, float]:
    """Otsu's threshold, which maximises the variance between two classes, and its share of the variance."""
    ordered = values.flatten().double().sort().values
    below = torch.arange(1, len(ordered), dtype=torch.float64)
    sums = ordered.cumsum(0)
    gap = sums[:-1] / below - (sums[-1] - sums[:-1]) / (len(ordered) - below)
    between = below * (len(ordered) - below) * gap.square() / len(ordered) ** 2
    place = int(between.argmax())
    return ordered[place].item(), (between[place] / ordered.var(unbiased=False).clamp(min=1e-12)).item()


def forget(seed: Tensor, mask: Tensor, share: float) -> Tensor:
    """Seed noise without its mean inside a mask, channel by channel:  z - share mask mean_mask(z).

    White noise hardly has one. That of an inverted seed is the photo's: common schedules end at a_T > 0
    (arXiv:2305.08891), so that networks learn to read an area's colour off it, and hold on to it whatever the
    prompt says.

    Args:
        seed: (B, C, h, w).
        mask: (1, 1, h, w) in [0, 1].
        share: in [0, 1]; 0 leaves the seed.
    """
    mean = (seed * mask).sum((-2, -1), keepdim=True) / mask.sum().clamp(min=1e-12)
    return seed - share * mask * mean


def latent_mask(mask: Tensor, shape: tuple[int, int]) -> Tensor:
    """A mask of pixels (1, 1, H, W) in [0, 1] as one of latents (1, 1, h, w), by means of pixels."""
    return adaptive_avg_pool2d(mask, shape)


def pixel_mask(mask: Tensor, shape: tuple[int, int]) -> Tensor:
    """The way back: (1, 1, h, w) -> (1, 1, H, W)."""
    return interpolate(mask, shape, mode="bilinear", align_corners=False)


def _stretched(maps: Tensor) -> Tensor:
    """Each map from 0 to 1."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low).clamp(min=1e-12)


def _smooth(values: Tensor) -> Tensor:
    return avg_pool2d(pad(values, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
