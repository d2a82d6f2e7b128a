"""Where an edit may happen: a mask that the user draws, or one from the attention to the changed words."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, avg_pool2d, interpolate, max_pool2d, pad

from invrecon.core.denoiser import Denoiser
from invrecon.core.editing.attention import Attention, Heads, Site
from invrecon.core.editing.words import Things
from invrecon.core.schedule import Schedule
from invrecon.core.transition import Transition, transitions

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
        if self.spans and site.cross and rows * columns == places:
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
    """A mask over the source trajectory: the part of the picture that changing the prompt changes.

    Under either prompt, the cross-attention to the things that change parts the picture in two, and so does
    that to the things that stay. Maps are means over layers, heads and ten of the steps, smoothed, from 0 to
    1. Of each two parts the one counts where the predictions under the two prompts change the picture more
    (`change_map`); attention alone can't tell, that to "background" often lies on what stands before it.
    These up to four masks vote, each with the share of the change's variance that it explains.

    Args:
        branches: denoisers under the source and the target prompt, with what each names.
        threshold: in [0, 1]; None for the one that parts the map best (Otsu's,
            doi:10.1109/TSMC.1979.4310076).

    Returns:
        (1, 1, h, w) in [0, 1] on the trajectory's device; 1 everywhere where no thing changes.
    """
    shape = (trajectory[0].shape[-2], trajectory[0].shape[-1])
    if not any(things.changed for _, things in branches):
        return torch.ones(1, 1, *shape, device=trajectory[0].device)
    levels: list[Tensor] = []
    predictions: list[Tensor] = []
    for denoiser, things in branches:
        spans = [*things.changed, *things.kept]
        maps, predicted = word_maps(denoiser, spans, schedule, trajectory, attention, shape)
        predictions.append(predicted)
        parts = maps[: len(things.changed)], maps[len(things.changed) :]
        levels += [part.amax(0, keepdim=True) for part in parts if len(part)]
    change = change_map(*predictions)
    masks = [(level > (otsu(level) if threshold is None else threshold)).float() for level in levels]
    masks = [mask if _mean(change, mask) >= _mean(change, 1 - mask) else 1 - mask for mask in masks]
    votes = torch.stack([_explained(change, mask) for mask in masks]).clamp(min=1e-12)
    mask = (torch.cat(masks) * votes[:, None, None, None]).sum(0, keepdim=True) >= votes.sum() / 2
    return _smooth(mask.float()).to(trajectory[0].device)


def _explained(values: Tensor, mask: Tensor) -> Tensor:
    """The share of the variance that the means inside and outside of a mask of 0 and 1 explain, a scalar."""
    share, gap = mask.mean(), _mean(values, mask) - _mean(values, 1 - mask)
    return share * (1 - share) * gap.square().squeeze() / values.var(unbiased=False).clamp(min=1e-12)


def word_maps(
    denoiser: Denoiser,
    spans: Sequence[range],
    schedule: Schedule,
    trajectory: Sequence[Tensor],
    attention: Attention,
    shape: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """One map for each span, (P, 1, h, w), from 0 to 1; and what the predictions at the steps that were
    looked at add to the picture, (K, C, h, w).
    """
    attention.watcher = found = WordMaps(spans, shape)
    try:
        predicted = _predicted(denoiser, schedule, trajectory)
    finally:
        attention.watcher = None
    return _stretched(_smooth(found.total)) if spans else found.total, predicted


@torch.no_grad()
def difference_mask(
    source: Denoiser,
    target: Denoiser,
    schedule: Schedule,
    trajectory: Sequence[Tensor],
    threshold: float | None = None,
) -> Tensor:
    """The part of the picture where `change_map` is above the threshold, for networks whose attention can't
    be watched.

    Args:
        source, target: under the two prompts, without guidance.
        trajectory: latents at each step, T of them or more, (1, C, h, w).
        threshold: in [0, 1], of the map from its least to its greatest value; None for Otsu's.

    Returns:
        (1, 1, h, w) in [0, 1] on the trajectory's device; 1 everywhere where nothing differs.
    """
    change = change_map(*(_predicted(each, schedule, trajectory) for each in (source, target)))
    level = _stretched(change)
    mask = level > (otsu(level) if threshold is None else threshold)
    return _smooth(mask.float() if change.any() else torch.ones_like(change)).to(trajectory[0].device)


def change_map(source: Tensor, target: Tensor) -> Tensor:
    """How strongly two prompts' predictions for the same latents change the picture at each place:

        m = sqrt(mean over steps and channels of b_k² (e_target - e_source)²),   smoothed

    with b_k the step's effect on the image (`Schedule.effects`). DiffEdit (arXiv:2210.11427, section 3.2)
    takes |e_target - e_source| at one noise level under ten noises. Late predictions of noise often differ
    most on an object while it is the ground that changes, which can be seen by then; but they hardly change
    the picture.

    Args:
        source, target: b_k e at K steps, (K, C, h, w).

    Returns:
        (1, 1, h, w); 0 everywhere where nothing differs.
    """
    return _smooth((target - source).square().mean((0, 1), keepdim=True).sqrt())


def _predicted(denoiser: Denoiser, schedule: Schedule, trajectory: Sequence[Tensor]) -> Tensor:
    """What the predictions add to the image at `PROBES` steps at most, evenly spread, (K, C, h, w)."""
    steps = list(zip(transitions(denoiser, schedule), trajectory, schedule.effects, strict=False))
    probed = steps[:: math.ceil(len(steps) / PROBES)]
    return torch.cat([effect * step.denoiser(z, step.timestep) for step, z, effect in probed]).float().cpu()


def otsu(values: Tensor) -> float:
    """Otsu's threshold, which maximises the variance between two classes."""
    ordered = values.flatten().double().sort().values
    below = torch.arange(1, len(ordered), dtype=torch.float64)
    sums = ordered.cumsum(0)
    gap = sums[:-1] / below - (sums[-1] - sums[:-1]) / (len(ordered) - below)
    between = below * (len(ordered) - below) * gap.square() / len(ordered) ** 2
    return ordered[int(between.argmax())].item()


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
    return seed - share * mask * _mean(seed, mask)


@torch.no_grad()
def recolour(seed: Tensor, mask: Tensor, share: float, first: Transition) -> Tensor:
    """Seed noise whose mean inside a mask is what the prompt leads to, in place of the photo's:

        z + share mask mean_mask(z - s_T e(z, T)),   z the forgotten seed

    z - s_T e is what the network takes for the picture's part of it, a_T x_0. Without it a network that knows
    a_T > 0 takes the area for grey, and guidance alone has to colour it: it overshoots where that is enough.

    Args:
        seed, mask, share: as for `forget`.
        first: of the target's steps without guidance, in epsilon form.
    """
    forgotten = forget(seed, mask, share)
    picture = forgotten - first.time * first.denoiser(forgotten, first.timestep)
    return forgotten + share * mask * _mean(picture, mask)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Of each channel inside a mask, (B, C, 1, 1)."""
    return (values * mask).sum((-2, -1), keepdim=True) / mask.sum().clamp(min=1e-12)


def latent_mask(mask: Tensor, shape: tuple[int, int]) -> Tensor:
    """A mask of pixels (1, 1, H, W) in [0, 1] as one of latents (1, 1, h, w): the greatest value among the
    pixels of a latent and of its eight neighbours.

    A decoder lets a latent colour the pixels of its neighbours too. So latents that the mask touches, and
    those beside them, have to take part in the edit: what is kept of them would show as a halo of the old
    picture. That the edit ends at the mask's border is left to pixels.
    """
    return max_pool2d(adaptive_max_pool2d(mask, shape), 3, stride=1, padding=1)


def pixel_mask(mask: Tensor, shape: tuple[int, int]) -> Tensor:
    """The way back: (1, 1, h, w) -> (1, 1, H, W)."""
    return interpolate(mask, shape, mode="bilinear", align_corners=False)


def _stretched(maps: Tensor) -> Tensor:
    """Each map from 0 to 1."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low).clamp(min=1e-12)


def _smooth(values: Tensor) -> Tensor:
    return avg_pool2d(pad(values, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
