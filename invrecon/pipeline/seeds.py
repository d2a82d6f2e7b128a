"""Seed files against the model and the photo that they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from invrecon.errors import InputError
from invrecon.image import Canvas, load_photo
from invrecon.seedfile import Seed

if TYPE_CHECKING:
    from invrecon.models import Model


def check_model(seed: Seed, path: Path, model: Model) -> None:
    """Raises InputError where `seed` was not made with the weights of `model`."""
    header, recipe = seed.header, seed.recipe
    if header["fingerprint"] != model.fingerprint:
        raise InputError(
            f"{path}: made with other weights ({header['model']!r:.80}) than {model.name!r} has; "
            "name its model with --model"
        )
    channels = seed.latents.shape[1]
    if channels != model.latent_channels:
        raise InputError(
            f"{path}: damaged seed file, {channels} latent channels "
            f"where the model has {model.latent_channels}"
        )
    if list(model.schedule(recipe).timesteps) != header["timesteps"]:
        raise InputError(
            f"{path}: its timesteps are not those that {model.name!r} takes "
            f"in {recipe.num_inference_steps} steps"
        )


def check_photo(seed: Seed, path: Path, photo: Path) -> None:
    """Raises InputError where `seed` was not made from the file `photo`."""
    origin = seed.header.get("photo")
    if not isinstance(origin, dict):
        raise InputError(f"{path}: belongs to no photo; `invrecon reconstruct` gives its picture")
    if origin.get("sha256") != load_photo(photo).sha256:
        raise InputError(f"{path}: was not made from {photo}")


def canvas_of(seed: Seed) -> Canvas:
    """How the photo of a seed lay on the canvas. Raises InputError where the seed belongs to no photo, or
    doesn't say.
    """
    match seed.header.get("photo"):
        case {"size": [int(width), int(height)], "fit": "crop" | "pad" | "stretch" as fit, "box": [*box]}:
            pass
        case _:
            raise InputError("belongs to no photo")
    recipe, room = seed.recipe, (width, height)
    size = recipe.width, recipe.height
    sides = size if fit == "pad" else room
    if len(box) != 4 or not all(isinstance(edge, int) for edge in box):
        raise InputError("damaged seed file, the photo's box is not four numbers")
    left, top, right, bottom = box
    if not (0 <= left < right <= sides[0] and 0 <= top < bottom <= sides[1]):
        raise InputError("damaged seed file, the photo's box lies outside of it")
    return Canvas(room, size, fit, (left, top, right, bottom))
