"""Seed files against the model and the photo that they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from invrecon.errors import InputError
from invrecon.image import load_photo
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
            f"{path}: damaged seed file, "
            f"{channels} latent channels where the model has {model.latent_channels}"
        )
    if list(model.schedule(recipe).timesteps) != header["timesteps"]:
        raise InputError(
            f"{path}: its timesteps are not those "
            f"that {model.name!r} takes in {recipe.num_inference_steps} steps"
        )


def check_photo(seed: Seed, path: Path, photo: Path) -> None:
    """Raises InputError where `seed` was not made from the file `photo`."""
    origin = seed.header.get("photo")
    if not isinstance(origin, dict):
        raise InputError(f"{path}: belongs to no photo; `invrecon reconstruct` gives its picture")
    if origin.get("sha256") != load_photo(photo).sha256:
        raise InputError(f"{path}: was not made from {photo}")
