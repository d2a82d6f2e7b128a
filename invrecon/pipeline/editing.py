"""From a photo or a seed file to edited pictures."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL.Image import Image

from invrecon.core.sampler import OnProgress
from invrecon.errors import InputError, ModelError
from invrecon.formats import is_seed_file
from invrecon.image import load_photo
from invrecon.metrics import psnr
from invrecon.pipeline.inversion import InversionMethod, PhotoInversion
from invrecon.pipeline.modes import check_edit
from invrecon.pipeline.origin import find_origin, read_mask, stored_edit, uninverted
from invrecon.pipeline.studio import Edited, Studio
from invrecon.pipeline.subject import canvas_for
from invrecon.settings import EditSettings, Settings

if TYPE_CHECKING:
    from invrecon.models import Model


@dataclass(frozen=True)
class Editing:
    """All edits of one photo or seed, with its plain reconstruction; what needs the photo is None for a seed
    file without it.

    Args:
        prompt: the photo's.
        inversion: of a photo; None where no edit needed a seed.
        reconstruction: as the model sees it, the autoencoder's where there is no seed; `psnr` is its PSNR
            against `original`, the photo on the canvas.
        advice: what a person should know of the inversion, or of a seed file under this model.
    """

    edits: list[Edited]
    prompt: str
    inversion: PhotoInversion | None
    reconstruction: Image
    original: Image | None
    psnr: float | None
    seconds: float = math.nan
    advice: str | None = None


def edit(
    source: Path | str,
    model: Model,
    edits: EditSettings | Sequence[EditSettings] | None = None,
    settings: Settings | None = None,
    on_progress: OnProgress | None = None,
    *,
    photo: Path | str | None = None,
    mask: Path | str | None = None,
    inversion: InversionMethod = "lbo",
) -> Editing:
    """Regenerates a photo with something changed: a photo is inverted first, unless all edits are FlowEdit's;
    a seed file brings its own prompt and settings.

    Args:
        source: an image file, or a seed file.
        model: from `load_model`.
        edits: one or several; None repeats the edit that a seed file's header holds.
        settings: of the inversion; for a seed file only its prompt counts, which must be the seed's if it
            isn't empty. Boosted seeds keep more of the photo; plain ones (`boost=False`) are found sooner.
        on_progress: called after every step with (stage, steps done, steps in all).
        photo: what a seed file was made from, to give the picture the photo's size.
        mask: a picture of the photo's size, white where the edit may happen.
        inversion: how a photo's seed is found; "ddim" for comparisons.

    Returns:
        A picture with its seed for each edit, in order, and the plain reconstruction.

    Raises:
        InputError: photo, seed file or mask can't be used, or don't belong together.
        UsageError, ModelError: the settings don't fit the model, or a prompt is too long for it.
    """
    source, settings, begun = Path(source), model.settled(settings or Settings()), time.monotonic()
    wanted = [edits] if isinstance(edits, EditSettings) else list(edits or ())
    _check(wanted, source, model, settings, mask)
    if needs_seed(wanted, source, settings):
        origin = find_origin(
            source, model, settings, on_progress, photo=Path(photo) if photo else None, method=inversion
        )
    else:
        origin = uninverted(source, model, settings)
    if edits is None and origin.seed:
        wanted = [stored_edit(source, origin.seed)]
    if mask:
        origin = replace(origin, mask=read_mask(Path(mask), origin.canvas))
    try:
        studio = Studio(model, origin, on_progress)
    except ModelError as error:
        if not is_seed_file(source):
            raise
        raise InputError(f"{source}: {error}") from error  # of this seed alone
    done = [studio.edit(one, f"editing {number}/{len(wanted)}") for number, one in enumerate(wanted, 1)]
    original, reconstruction = origin.original, studio.reconstruction
    known = psnr(original, reconstruction) if original else None
    seconds = time.monotonic() - begun
    return Editing(
        done,
        origin.recipe.prompt,
        origin.inversion,
        reconstruction,
        original,
        known,
        seconds,
        origin.advice,
    )


def needs_seed(wanted: Sequence[EditSettings], source: Path, settings: Settings) -> bool:
    """Whether edits start from a seed: FlowEdit alone doesn't, so that its photo needn't be inverted."""
    free = wanted and all(one.mode == "flowedit" for one in wanted) and not settings.auto_guidance
    return is_seed_file(source) or not free


def _check(
    wanted: Sequence[EditSettings],
    source: Path,
    model: Model,
    settings: Settings,
    mask: Path | str | None,
) -> None:
    """Raises what `edit` does, for what can be told before the inversion."""
    for one in wanted:
        check_edit(one, model, "auto" if is_seed_file(source) else settings.sampler)
    if mask and not is_seed_file(source):
        read_mask(Path(mask), canvas_for(load_photo(source), model, settings))
