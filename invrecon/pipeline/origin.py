"""What edits start from: a seed or the photo's latents, and what is known of the photo behind them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from invrecon.core.sampler import OnProgress
from invrecon.errors import InputError, UsageError
from invrecon.formats import is_seed_file
from invrecon.image import Canvas, Photo, load_photo
from invrecon.pipeline.inversion import InversionMethod, PhotoInversion, invert
from invrecon.pipeline.seeds import TILES, canvas_of, caveats, check_model, check_photo
from invrecon.pipeline.subject import find_subject
from invrecon.seedfile import Seed, load_seed
from invrecon.settings import EditSettings, Recipe, Settings, read_edit

if TYPE_CHECKING:
    from invrecon.models import Model


@dataclass(frozen=True)
class Origin:
    """A seed, with the photo it was made from as far as it is at hand; or a photo alone.

    Args:
        recipe: the seed's, or under which a photo is edited without one.
        image_latents: z_0, (1, C, h, w).
        seed: None for a photo that isn't inverted.
        mask: (H, W) uint8, 255 where an edit may happen; None where it may everywhere.
        canvas: how the photo lay on it; None for a seed that belongs to no photo.
        original: the photo on the canvas.
        advice: what a person should know of the inversion, or of a seed file under this model.
    """

    recipe: Recipe
    image_latents: Tensor
    seed: Seed | None = None
    mask: Tensor | None = None
    canvas: Canvas | None = None
    photo: Photo | None = None
    inversion: PhotoInversion | None = None
    advice: str | None = None

    @classmethod
    def of_seed(cls, seed: Seed, **known: Any) -> Origin:
        """A seed, and what is known besides."""
        return cls(seed.recipe, seed.image_latents, seed, seed.mask, **known)

    @property
    def original(self) -> Image | None:
        return self.canvas.place(self.photo.rgb) if self.canvas and self.photo else None

    def restore(self, square: Image, mask: Image | None = None) -> Image:
        """The picture at the photo's own size; itself where the photo isn't at hand.

        Args:
            mask: where it is black, the photo's own pixels stand.
        """
        return self.canvas.restore(square, self.photo, mask) if self.canvas and self.photo else square


def find_origin(
    source: Path,
    model: Model,
    settings: Settings,
    on_progress: OnProgress | None = None,
    *,
    photo: Path | None = None,
    method: InversionMethod = "lbo",
) -> Origin:
    """Inverts a photo, or reads a seed file.

    Raises:
        InputError: the file can't be used, was made with another model, prompt or photo.
    """
    if not is_seed_file(source):
        inversion = invert(source, model, settings, on_progress, method=method)
        subject = inversion.subject
        return Origin.of_seed(
            inversion.seed,
            canvas=subject.canvas,
            photo=subject.photo,
            inversion=inversion,
            advice=inversion.advice,
        )
    seed = load_seed(source)
    check_model(seed, source, model)
    if settings.prompt not in ("", seed.recipe.prompt):
        raise InputError(
            f"{source}: was made with the prompt {seed.recipe.prompt!r:.200}, "
            f"not {settings.prompt!r:.200}; leave --prompt out"
        )
    if photo:
        check_photo(seed, source, photo)
    loaded = load_photo(photo) if photo else None
    canvas = canvas_of(seed, source) if seed.header.get("photo") else None
    advice = "; ".join(caveats(seed, model)) or None
    return Origin.of_seed(seed, canvas=canvas, photo=loaded, advice=advice)


def uninverted(photo: Path, model: Model, settings: Settings) -> Origin:
    """A photo that is encoded, and not inverted.

    Raises:
        InputError: it can't be used.
        UsageError, ModelError: the settings don't fit the model.
    """
    model.check(settings)
    subject = find_subject(photo, model, settings)
    notes = (subject.photo.note, TILES if model.tiled(*subject.canvas.size) else None)
    return Origin(
        settings.recipe(*subject.canvas.size),
        subject.encoded,
        canvas=subject.canvas,
        photo=subject.photo,
        advice="; ".join(note for note in notes if note) or None,
    )


def read_mask(path: Path, canvas: Canvas | None) -> Tensor:
    """A picture of the photo's size as (H, W) uint8 of the canvas's, 255 where the edit may happen.

    Raises:
        InputError: it can't be read, has another size than the photo, or is black all over.
    """
    if canvas is None:
        raise InputError(f"{path}: can't be laid over a seed that belongs to no photo")
    mask = load_photo(path).rgb
    if mask.size != canvas.photo_size:
        (width, height), (photo_width, photo_height) = mask.size, canvas.photo_size
        raise InputError(
            f"{path}: a mask of {width} x {height} pixels for a photo of {photo_width} x {photo_height}; "
            "they must be alike"
        )
    placed = torch.from_numpy(np.array(canvas.place(mask).convert("L")))
    if not placed.any():
        raise InputError(
            f"{path}: is black where the model sees the photo: nothing can be edited; white is editable"
        )
    return placed


def stored_edit(path: Path, seed: Seed) -> EditSettings:
    """The edit that a seed file holds.

    Raises:
        InputError: it holds none, or a damaged one.
    """
    if "edit" not in seed.header:
        raise InputError(f"{path}: holds no edit to repeat; say what it should show with --to")
    try:
        return read_edit(seed.header["edit"])
    except UsageError as error:
        raise InputError(f"{path}: damaged seed file, {error}") from error
