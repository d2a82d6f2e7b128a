"""One seed in the studio: its trajectory, masks, and edits."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from PIL.Image import Image, composite
from torch import Tensor

from invrecon.core.denoiser import Denoiser
from invrecon.core.editing import branches
from invrecon.core.editing.attention import Attention
from invrecon.core.editing.branches import Mode, trace
from invrecon.core.editing.guided_filter import along_edges
from invrecon.core.editing.locality import attention_mask, forget, latent_mask, pixel_mask
from invrecon.core.editing.masactrl import masactrl
from invrecon.core.editing.p2p import p2p, token_weights
from invrecon.core.editing.sdedit import sdedit
from invrecon.core.editing.swap import swap
from invrecon.core.editing.words import align, things
from invrecon.core.sampler import OnProgress
from invrecon.core.sampling import OnStep
from invrecon.errors import UsageError
from invrecon.image import to_image
from invrecon.metrics import psnr
from invrecon.models.attention import WatchedAttention
from invrecon.pipeline.origin import Origin
from invrecon.pipeline.subject import pixels_of
from invrecon.seedfile import Seed
from invrecon.settings import EditSettings

if TYPE_CHECKING:
    from invrecon.models import Model


@dataclass(frozen=True)
class Edited:
    """One edit.

    Args:
        picture: at the photo's own size where the photo is known, else the square.
        square: as the model sees it; `mask` is of its size (mode L, white is editable), None without.
        seed: with this edit in its header: `edit` repeats it.
        change_db: PSNR against the reconstruction; infinite where nothing changed.
        outside_psnr, outside_reconstruction_psnr: of the edit and of the reconstruction against the photo,
            where the mask is black.
    """

    settings: EditSettings
    picture: Image
    square: Image
    seed: Seed
    change_db: float
    seconds: float
    mask: Image | None = None
    outside_psnr: float | None = None
    outside_reconstruction_psnr: float | None = None


def weigh(settings: EditSettings, model: Model) -> Tensor:
    """The weight of each token of the target's prompt. Raises UsageError where a word to be weighed isn't
    there.
    """
    try:
        return token_weights(model.words(settings.to), settings.weights)
    except KeyError as error:
        raise UsageError(f"can't weigh {error.args[0]!r}: it is not a word of {settings.to!r}") from error


class Studio:
    """One seed, its source trajectory and its reconstruction, from which any number of edits are made.

    Args:
        origin: the seed, and what is known of its photo.

    Raises:
        UsageError: the seed's sampler can't be edited.
    """

    def __init__(self, model: Model, origin: Origin, on_progress: OnProgress | None) -> None:
        self.model, self.origin, self.on_progress = model, origin, on_progress
        self.recipe = origin.seed.recipe
        self.schedule = model.schedule(self.recipe)
        if self.schedule.memory:
            raise UsageError(
                f"a seed for {self.recipe.sampler} can't be edited: its steps depend on those before; "
                "use --sampler ddim"
            )
        denoiser = model.denoiser(self.recipe)
        seed = origin.seed.latents.to(model.device)
        self.source = trace(denoiser, self.schedule, seed, self._on_step("regenerating"))
        self.pixels = self._decode(self.source.trajectory[-1])
        self.reconstruction = to_image(self.pixels)
        self.word_masks: dict[tuple[str, float | None], Tensor] = {}

    def edit(self, settings: EditSettings, name: str) -> Edited:
        """One edit; `name` is that of its stage for progress bars."""
        begun, mode = time.monotonic(), self._mode(settings)
        self._check_keep_original(settings)
        with self._attention(settings) as attention:
            mask = self._mask(settings, attention)
            area = None if mask is None else latent_mask(mask, self._grid())
            latents = branches.edit(
                self.source,
                self._target(settings),
                mode,
                attention,
                mask=area,
                seed=self._start(settings, area),
                on_step=self._on_step(name),
            )
        square = to_image(self._decode(latents))
        return self._finish(settings, square, mask, time.monotonic() - begun)

    def _attention(self, settings: EditSettings) -> AbstractContextManager[Attention]:
        if settings.auto_mask or settings.mode in ("p2p", "masactrl"):
            return self.model.watched()
        return nullcontext(WatchedAttention())  # which nothing is asked of

    def _check_keep_original(self, settings: EditSettings) -> None:
        if not settings.keep_original:
            return
        if self.origin.seed.mask is None and not settings.auto_mask:
            raise UsageError("--keep-original needs to know where: give --mask or --auto-mask")
        if self.origin.photo is None:
            raise UsageError(
                "--keep-original needs the photo that the seed was made from: give it with --photo"
            )

    def _target(self, settings: EditSettings) -> Denoiser:
        negative, recipe = settings.negative_prompt, self.recipe
        if negative is None and not self.model.has_negative_prompt:
            negative = ""
        if negative is None:
            guided = recipe.guidance_scale > self.model.no_guidance
            negative = recipe.negative_prompt if guided else recipe.prompt
        scale = self.model.own_guidance(settings.guidance_scale)
        return self.model.denoiser(
            replace(recipe, prompt=settings.to, negative_prompt=negative, guidance_scale=scale)
        )

    def _start(self, settings: EditSettings, area: Tensor | None) -> Tensor | None:
        """The seed of the target branch where it isn't the source's."""
        if area is None or settings.to == self.recipe.prompt:
            return None
        return forget(self.source.trajectory[0], area, settings.forget)

    def _grid(self) -> tuple[int, int]:
        height, width = self.source.trajectory[0].shape[-2:]
        return height, width

    def _on_step(self, stage: str) -> OnStep | None:
        return partial(self.on_progress, stage) if self.on_progress else None

    def _mode(self, settings: EditSettings) -> Mode:
        if settings.mode == "swap":
            return swap()
        if settings.mode == "sdedit":
            return sdedit(settings.strength)
        if settings.mode == "masactrl":
            return masactrl(settings.start_step, settings.start_layer)
        alignment = align(
            self.model.words(self.recipe.prompt),
            self.model.words(settings.to),
            replace=settings.words == "replace",
        )
        return p2p(alignment, weigh(settings, self.model), settings.cross_steps, settings.self_steps)

    def _mask(self, settings: EditSettings, attention: Attention) -> Tensor | None:
        """(1, 1, H, W) in [0, 1] on the model's device: the drawn mask, times that of the words."""
        drawn = self.origin.seed.mask
        mask = None if drawn is None else (drawn.float() / 255)[None, None].to(self.model.device)
        if settings.auto_mask:
            key = (settings.to, settings.mask_threshold)
            if key not in self.word_masks:
                self.word_masks[key] = self._mask_of_words(*key, attention)
            mask = self.word_masks[key] if mask is None else mask * self.word_masks[key]
        return mask

    def _mask_of_words(self, to: str, threshold: float | None, attention: Attention) -> Tensor:
        source, target = things(self.model.words(self.recipe.prompt), self.model.words(to))
        none = self.model.no_guidance
        plain = replace(self.recipe, prompt=to, negative_prompt="", guidance_scale=none)
        pairs = [(self.source.denoiser, source), (self.model.denoiser(plain), target)]
        mask = attention_mask(pairs, self.schedule, self.source.trajectory, attention, threshold)
        return along_edges(pixel_mask(mask, (self.pixels.shape[-2], self.pixels.shape[-1])), self.pixels)

    def _finish(self, settings: EditSettings, square: Image, mask: Tensor | None, seconds: float) -> Edited:
        origin = self.origin
        seed = replace(origin.seed, header=origin.seed.header | {"edit": settings.header()})
        shown = outside = None
        if mask is not None:
            shown = to_image((mask * 2 - 1).expand(-1, 3, -1, -1)).convert("L")
            square = composite(square, self.reconstruction, shown)
            outside = shown.point(lambda level: 255 * (level == 0))
        untouched = origin.original if outside and outside.getbbox() else None
        return Edited(
            settings=settings,
            picture=origin.restore(square, shown if settings.keep_original else None),
            square=square,
            seed=seed,
            seconds=seconds,
            change_db=psnr(square, self.reconstruction),
            mask=shown,
            outside_psnr=psnr(untouched, square, outside) if untouched else None,
            outside_reconstruction_psnr=psnr(untouched, self.reconstruction, outside) if untouched else None,
        )

    @torch.no_grad()
    def _decode(self, latents: Tensor) -> Tensor:
        return pixels_of(self.model, latents, self.recipe)
