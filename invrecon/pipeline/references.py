"""What pictures are imagined from: photos and seed files as references of one size."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL.Image import Image

from invrecon.core.health import Health, health
from invrecon.core.sampler import OnProgress
from invrecon.errors import InputError
from invrecon.formats import is_seed_file
from invrecon.image import best_size, load_photo
from invrecon.pipeline.inversion import invert_subjects
from invrecon.pipeline.run import only, run_photos
from invrecon.pipeline.seeds import blamed, caveats, check_model
from invrecon.pipeline.subject import decode
from invrecon.seedfile import Seed, load_seed
from invrecon.settings import Recipe, Settings

if TYPE_CHECKING:
    from invrecon.models import Model


@dataclass(frozen=True)
class Reference:
    """A photo or seed file to start from: its seed as found, of any norm, and its picture as the model sees
    it.

    Args:
        advice: what a person should know of the inversion, or of a seed file under this model.
        evaluations: of the network, 0 for a seed file.
    """

    seed: Seed
    picture: Image
    health: Health
    evaluations: int
    seconds: float
    advice: str | None = None

    @property
    def recipe(self) -> Recipe:
        """What leads from its seed to its picture."""
        return self.seed.recipe


def find_reference(
    source: Path | str,
    model: Model,
    settings: Settings | None = None,
    on_progress: OnProgress | None = None,
) -> Reference:
    """Inverts a photo under the prompt, without guidance and boosting, which drive seeds off the shell; or
    reads a seed file.

    Raises:
        InputError: the photo or seed file can't be used, or its seed is of another model.
        UsageError, ModelError: the settings don't fit the model.
    """
    begun, source = time.monotonic(), Path(source)
    if is_seed_file(source):
        seed = load_seed(source)
        check_model(seed, source, model)
        with blamed(source):
            picture = decode(model, seed.image_latents)
        advice, seconds = "; ".join(caveats(seed, model)) or None, time.monotonic() - begun
        return Reference(seed, picture, health(seed.latents), 0, seconds, advice)
    settings, none = model.settled(settings or Settings()), model.no_guidance
    plain = replace(settings, boost=False, guidance_scale=none, auto_guidance=False)
    inversion = only(run_photos([source], invert_subjects, model, plain, on_progress))
    seed, seconds = inversion.seed, time.monotonic() - begun
    return Reference(
        seed,
        inversion.subject.original,
        health(seed.latents),
        inversion.evaluations,
        seconds,
        inversion.advice,
    )


def of_common_size(
    references: Sequence[Path | str | Reference], model: Model, settings: Settings
) -> Settings:
    """The settings under which all references are seen at one size: that of the settings where they say it
    exactly, else that of the first seed, else the one nearest to the photos' mean shape. Photos of another
    shape are cropped to it.

    Files that can't be read have no say.
    """
    if settings.exact_size or settings.fit != "whole" or len(references) == 1:
        return settings
    ratios = []
    for each in references:
        try:
            if isinstance(each, Reference) or is_seed_file(Path(each)):
                recipe = (each if isinstance(each, Reference) else load_seed(each)).recipe
                return replace(settings, size=f"{recipe.width}x{recipe.height}", fit="crop")
            width, height = load_photo(Path(each)).rgb.size
        except InputError:
            continue
        ratios.append(math.log(width / height))
    if not ratios:
        return settings
    mean = math.exp(sum(ratios) / len(ratios))
    width, height = best_size((round(1000 * mean), 1000), int(settings.size), model.multiple)
    return replace(settings, size=f"{width}x{height}", fit="crop")


def find_references(
    sources: Sequence[Path | str | Reference],
    model: Model,
    settings: Settings,
    on_progress: OnProgress | None,
) -> list[Reference]:
    """All as references of one size. Photos of another shape are cropped to it.

    Raises:
        InputError: one can't be used, or is a seed of another size.
    """
    settings = of_common_size(sources, model, settings)
    references: list[Reference] = []
    for source in sources:
        one = (
            source if isinstance(source, Reference) else find_reference(source, model, settings, on_progress)
        )
        first = references[0] if references else one
        if one.seed.latents.shape != first.seed.latents.shape:
            sizes = [f"{each.recipe.width}x{each.recipe.height}" for each in (one, first)]
            name = "a reference" if one is source else source
            raise InputError(
                f"{name}: is a seed for {sizes[0]} pixels, not for {sizes[1]}; "
                f"make it anew with --size {sizes[1]}"
            )
        references.append(one)
    return references
