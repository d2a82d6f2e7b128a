"""From a photo or a seed file to edited pictures."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from PIL.Image import Image, composite
from torch import Tensor

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
from invrecon.errors import UsageError
from invrecon.formats import is_seed_file
from invrecon.image import load_photo, plan_canvas, to_image
from invrecon.metrics import psnr
from invrecon.pipeline.groundwork import OnProgress, stage
from invrecon.pipeline.inversion import Inversion
from invrecon.pipeline.origin import Origin, find_origin, read_mask, stored_edit
from invrecon.seedfile import Seed, sampler_of
from invrecon.settings import EditSettings, Settings

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
        outside_psnr, outside_reconstruction_psnr: of the edit and of the reconstruction against the photo, where the mask is black.
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


@dataclass(frozen=True)
class Editing:
    """All edits of one photo or seed, with its plain reconstruction; what needs the photo is None for a seed file without it.

    Args:
        reconstruction: as the model sees it; `psnr` is its PSNR against `original`, the photo on the canvas.
    """

    edits: list[Edited]
    inversion: Inversion | None
    reconstruction: Image
    original: Image | None
    psnr: float | None
    seconds: float = math.nan


def edit(
    source: Path | str,
    model: Model,
    edits: EditSettings | Sequence[EditSettings] | None = None,
    settings: Settings | None = None,
    on_progress: OnProgress | None = None,
    *,
    photo: Path | str | None = None,
    mask: Path | str | None = None,
    inversion: Literal["lbo", "ddim"] = "lbo",
) -> Editing:
    """Regenerates a photo with something changed: a photo is inverted first, a seed file brings its own prompt and settings.

    Args:
        edits: one or several; None repeats the edit that a seed file's header holds.
        settings: of the inversion; for a seed file only its prompt counts, which must be the seed's if it isn't empty.
            Boosted seeds keep more of the photo; plain ones (`boost=False`) are found sooner.
        photo: what a seed file was made from, to give the picture the photo's size.
        mask: a picture of the photo's size, white where the edit may happen.
        inversion: how a photo's seed is found; "ddim" for comparisons.

    Raises:
        InputError: photo, seed file or mask can't be used, or don't belong together.
        UsageError, ModelError: the settings don't fit the model, or a prompt is too long for it.
    """
    source, settings = Path(source), settings or Settings()
    begun = time.monotonic()
    wanted = [edits] if isinstance(edits, EditSettings) else list(edits or ())
    for one in wanted:  # what can't be done is told before the inversion
        model.denoiser(one.to, one.negative_prompt or "")
        _weights(one, model)
    if mask and not is_seed_file(source):
        read_mask(Path(mask), plan_canvas(load_photo(source).rgb.size, settings.size, settings.fit))
    origin = find_origin(
        source, model, settings, on_progress, photo=Path(photo) if photo else None, method=inversion
    )
    if edits is None:
        wanted = [stored_edit(source, origin.seed)]
    drawn = read_mask(Path(mask), origin.canvas) if mask else origin.seed.mask
    studio = _Studio(model, replace(origin, seed=replace(origin.seed, mask=drawn)), on_progress)
    done = [studio.edit(one, f"editing {number}/{len(wanted)}") for number, one in enumerate(wanted, 1)]
    known = psnr(origin.original, studio.reconstruction) if origin.original else None
    return Editing(
        done, origin.inversion, studio.reconstruction, origin.original, known, time.monotonic() - begun
    )


def _weights(settings: EditSettings, model: Model) -> Tensor:
    try:
        return token_weights(model.words(settings.to), settings.weights)
    except KeyError as error:
        raise UsageError(f"can't weigh {error.args[0]!r}: it is not a word of {settings.to!r}") from error


class _Studio:
    """One seed, its source trajectory and its reconstruction, from which any number of edits are made."""

    def __init__(self, model: Model, origin: Origin, on_progress: OnProgress | None) -> None:
        header = origin.seed.header
        self.model = model = model.with_sampler(sampler_of(header))
        self.origin, self.on_progress = origin, on_progress
        self.prompt: str = header["prompt"]
        self.schedule = model.schedule(header["num_inference_steps"], header["size"])
        if self.schedule.memory:
            raise UsageError(
                f"a seed for {model.sampler} can't be edited: its steps depend on those before; use --sampler ddim"
            )
        self.source = model.denoiser(self.prompt, header["negative_prompt"], header["guidance_scale"])
        seed = origin.seed.latents.to(model.device)
        self.trajectory = trace(self.source, self.schedule, seed, stage(on_progress, "regenerating"))
        self.pixels = self._decode(self.trajectory[-1])
        self.reconstruction = to_image(self.pixels)
        self.found_masks: dict[tuple[str, float | None], Tensor] = {}

    def edit(self, settings: EditSettings, name: str) -> Edited:
        header, begun = self.origin.seed.header, time.monotonic()
        negative = settings.negative_prompt
        if negative is None:
            negative = self.prompt if header["guidance_scale"] == 1 else header["negative_prompt"]
        target = self.model.denoiser(settings.to, negative, settings.guidance_scale)
        mode = self._mode(settings)
        with self.model.watched() as attention:
            mask = self._mask(settings, attention)
            area = (
                None
                if mask is None
                else latent_mask(mask, (self.trajectory[0].shape[-2], self.trajectory[0].shape[-1]))
            )
            latents = branches.edit(
                self.source,
                target,
                self.schedule,
                self.trajectory,
                mode,
                attention,
                mask=area,
                seed=forget(self.trajectory[0], area, settings.forget)
                if area is not None and settings.to != self.prompt
                else None,
                on_step=stage(self.on_progress, name),
            )
        return self._finish(settings, to_image(self._decode(latents)), mask, time.monotonic() - begun)

    def _mode(self, settings: EditSettings) -> Mode:
        if settings.mode == "swap":
            return swap()
        if settings.mode == "sdedit":
            return sdedit(settings.strength)
        if settings.mode == "masactrl":
            return masactrl(settings.start_step, settings.start_layer)
        alignment = align(
            self.model.words(self.prompt), self.model.words(settings.to), replace=settings.words == "replace"
        )
        return p2p(alignment, _weights(settings, self.model), settings.cross_steps, settings.self_steps)

    def _mask(self, settings: EditSettings, attention: Attention) -> Tensor | None:
        """(1, 1, H, W) in [0, 1] on the model's device: the drawn mask, times that of the words."""
        drawn = self.origin.seed.mask
        mask = None if drawn is None else (drawn.float() / 255)[None, None].to(self.model.device)
        if settings.auto_mask:
            key = (settings.to, settings.mask_threshold)
            found = self.found_masks[key] = (
                self.found_masks[key] if key in self.found_masks else self._find_mask(*key, attention)
            )
            mask = found if mask is None else mask * found
        return mask

    def _find_mask(self, to: str, threshold: float | None, attention: Attention) -> Tensor:
        source, target = things(self.model.words(self.prompt), self.model.words(to))
        pairs = [(self.source, source), (self.model.denoiser(to), target)]
        found = attention_mask(pairs, self.schedule, self.trajectory, attention, threshold)
        return along_edges(pixel_mask(found, (self.pixels.shape[-2], self.pixels.shape[-1])), self.pixels)

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
            picture=origin.restore(square),
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
        return self.model.decode(latents)
