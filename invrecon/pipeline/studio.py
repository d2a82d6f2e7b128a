"""One seed or photo in the studio: its trajectory, masks, and edits."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from PIL.Image import Image, composite
from torch import Tensor

from invrecon.core.denoiser import Denoiser
from invrecon.core.editing import branches
from invrecon.core.editing.branches import SourceBranch, Watched, trace
from invrecon.core.editing.flowedit import flowedit, noise_to
from invrecon.core.editing.guided_filter import along_edges, by_colour
from invrecon.core.editing.locality import (
    attention_mask,
    difference_mask,
    forget,
    latent_mask,
    pixel_mask,
    recolour,
)
from invrecon.core.editing.words import things
from invrecon.core.sampler import OnProgress
from invrecon.core.sampling import OnStep
from invrecon.core.transition import transitions
from invrecon.errors import UsageError
from invrecon.image import to_image
from invrecon.metrics import psnr
from invrecon.models.attention import WatchedAttention, can_steer
from invrecon.models.probing import PipelineDenoiser
from invrecon.models.values import hooked
from invrecon.pipeline.header import sampling_header
from invrecon.pipeline.modes import check_flowedit, mode_of, with_guidance
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
        seed: with this edit in its header: `edit` repeats it. None where there is none.
        header: the seed's; without one, what a seed's would say of model, settings and edit.
        change_db: PSNR against the reconstruction; infinite where nothing changed.
        outside_psnr, outside_reconstruction_psnr: of the edit and of the reconstruction against the photo,
            where the mask is black.
    """

    settings: EditSettings
    picture: Image
    square: Image
    seed: Seed | None
    header: Mapping[str, Any]
    change_db: float
    seconds: float
    mask: Image | None = None
    outside_psnr: float | None = None
    outside_reconstruction_psnr: float | None = None


class Studio:
    """One seed, its source trajectory and its reconstruction, from which any number of edits are made; or a
    photo's latents alone, for FlowEdit.

    Args:
        origin: the seed or the latents, and what is known of the photo.

    Raises:
        UsageError: the seed's sampler can't be edited.
    """

    def __init__(self, model: Model, origin: Origin, on_progress: OnProgress | None) -> None:
        self.model, self.origin, self.on_progress = model, origin, on_progress
        self.recipe = origin.recipe
        self.schedule = model.schedule(self.recipe)
        if self.schedule.memory:
            raise UsageError(
                f"a seed for {self.recipe.sampler} can't be edited: its steps depend on those before; "
                "use --sampler ddim"
            )
        self.denoiser, self.photo = model.denoiser(self.recipe), origin.image_latents.to(model.device)
        self.trajectory: Sequence[Tensor] = [self.photo]
        if origin.seed:
            seed, on_step = origin.seed.latents.to(model.device), self._on_step("regenerating")
            self.trajectory = trace(self.denoiser, self.schedule, seed, on_step).trajectory
        self.pixels = self._decode(self.trajectory[-1])
        self.reconstruction = to_image(self.pixels)
        self.masks: dict[tuple[str, float | None], Tensor] = {}

    def edit(self, settings: EditSettings, name: str) -> Edited:
        """One edit; `name` is that of its stage for progress bars."""
        begun, settings = time.monotonic(), with_guidance(settings, self.model, self.recipe)
        self._check_keep_original(settings)
        mask = self._mask(settings)
        area = None if mask is None else latent_mask(mask, self._grid())
        make = self._flowedit if settings.mode == "flowedit" else self._from_seed
        square = to_image(self._decode(make(settings, area, self._on_step(name))))
        return self._finish(settings, square, mask, time.monotonic() - begun)

    def _from_seed(self, settings: EditSettings, area: Tensor | None, on_step: OnStep | None) -> Tensor:
        """Image latents of an edit that starts from the seed."""
        with self._layers(settings) as (watched, source, target):
            return branches.edit(
                SourceBranch(source, self.schedule, self.trajectory),
                target,
                mode_of(settings, self.model, self.recipe),
                watched,
                mask=area,
                seed=self._start(settings, area),
                on_step=on_step,
            )

    def _flowedit(self, settings: EditSettings, area: Tensor | None, on_step: OnStep | None) -> Tensor:
        check_flowedit(self.model, self.recipe.sampler, self.schedule)
        return flowedit(
            (self.denoiser, self._target(settings)),
            self.schedule,
            self.photo,
            settings.strength,
            settings.n_avg,
            torch.Generator().manual_seed(settings.noise_seed),
            mask=area,
            on_step=on_step,
        )

    @contextmanager
    def _layers(self, settings: EditSettings) -> Iterator[tuple[Watched, Denoiser, Denoiser]]:
        """The layers that a mode watches, the source's denoiser and the target's."""
        source, target = self.denoiser, self._target(settings)
        if settings.mode == "inject":
            if target.weight == 1 != source.weight:  # one sample is given to one
                source = source.unguided()
            with hooked(self.model.network, source, target, settings.keys) as found:
                yield found
        elif settings.mode in ("p2p", "masactrl"):
            with self.model.watched() as attention:
                yield attention, source, target
        else:
            yield WatchedAttention(), source, target  # of which nothing is asked

    def _check_keep_original(self, settings: EditSettings) -> None:
        if not settings.keep_original:
            return
        if self.origin.mask is None and not settings.auto_mask:
            raise UsageError("--keep-original needs to know where: give --mask or --auto-mask")
        if self.origin.photo is None:
            raise UsageError(
                "--keep-original needs the photo that the seed was made from: give it with --photo"
            )

    def _target(self, settings: EditSettings) -> PipelineDenoiser:
        negative, recipe = settings.negative_prompt, self.recipe
        if negative is None and not self.model.has_negative_prompt:
            negative = ""
        if negative is None:
            guided = recipe.guidance_scale > self.model.no_guidance
            negative = recipe.negative_prompt if guided else recipe.prompt
        assert settings.guidance_scale is not None  # `with_guidance` said one
        scale = self.model.own_guidance(settings.guidance_scale)
        target = self.model.denoiser(
            replace(recipe, prompt=settings.to, negative_prompt=negative, guidance_scale=scale)
        )
        if settings.negative_prompt is None and recipe.guidance_scale <= self.model.no_guidance:
            return target.away_from_prompt(self.denoiser)
        return target

    def _start(self, settings: EditSettings, area: Tensor | None) -> Tensor | None:
        """The seed of the target branch where it isn't the source's."""
        if area is None or settings.to == self.recipe.prompt:
            return None
        seed, share = self.trajectory[0], settings.forget
        if self.model.form(self.recipe.sampler) != "epsilon":  # a flow's seed holds nothing of the picture
            return forget(seed, area, share)
        first = transitions(self._target(settings).unguided(), self.schedule)[0]
        return recolour(seed, area, share, first)

    def _grid(self) -> tuple[int, int]:
        height, width = self.photo.shape[-2:]
        return height, width

    def _on_step(self, stage: str) -> OnStep | None:
        return partial(self.on_progress, stage) if self.on_progress else None

    def _mask(self, settings: EditSettings) -> Tensor | None:
        """(1, 1, H, W) in [0, 1] on the model's device: the drawn mask, times the automatic one."""
        drawn = self.origin.mask
        mask = None if drawn is None else (drawn.float() / 255)[None, None].to(self.model.device)
        if settings.auto_mask:
            key = (settings.to, settings.mask_threshold)
            if key not in self.masks:
                self.masks[key] = self._automatic_mask(*key)
            mask = self.masks[key] if mask is None else mask * self.masks[key]
        return mask

    def _automatic_mask(self, to: str, threshold: float | None) -> Tensor:
        """From attention to the changed words where it can be watched and there is a seed, else from what the
        two prompts predict."""
        none = self.model.no_guidance
        plain = self.model.denoiser(replace(self.recipe, prompt=to, negative_prompt="", guidance_scale=none))
        if self.origin.seed and can_steer(self.model.pipeline):
            source, target = things(self.model.words(self.recipe.prompt), self.model.words(to))
            pairs = [(self.denoiser, source), (plain, target)]
            with self.model.watched() as attention:
                mask = attention_mask(pairs, self.schedule, self.trajectory, attention, threshold)
        else:
            mask = difference_mask(self.denoiser.unguided(), plain, self.schedule, self._noisy(), threshold)
        mask = pixel_mask(mask, (self.pixels.shape[-2], self.pixels.shape[-1]))
        return along_edges(by_colour(mask, self.pixels), self.pixels)

    def _noisy(self) -> Sequence[Tensor]:
        """The photo's latents at each step: the seed's trajectory, or under noise of a fixed number."""
        if self.origin.seed:
            return self.trajectory
        generator = torch.Generator().manual_seed(0)
        return [noise_to(self.photo, sigma, generator) for sigma in self.schedule.times]

    def _finish(self, settings: EditSettings, square: Image, mask: Tensor | None, seconds: float) -> Edited:
        origin, seed = self.origin, self.origin.seed
        header = seed.header if seed else sampling_header(self.model, self.recipe, self.schedule)
        header = header | {"edit": settings.header()}
        if seed:
            seed = replace(seed, mask=origin.mask, header=header)
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
            header=header,
            seconds=seconds,
            change_db=psnr(square, self.reconstruction),
            mask=shown,
            outside_psnr=psnr(untouched, square, outside) if untouched else None,
            outside_reconstruction_psnr=psnr(untouched, self.reconstruction, outside) if untouched else None,
        )

    @torch.no_grad()
    def _decode(self, latents: Tensor) -> Tensor:
        return pixels_of(self.model, latents, self.recipe)
