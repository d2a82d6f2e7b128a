"""Seed files against the model and the photo that they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from invrecon.errors import InputError, ModelError, UsageError
from invrecon.image import Canvas, load_photo
from invrecon.models.cards import card_settings
from invrecon.models.mismatch import mismatch
from invrecon.seedfile import Seed
from invrecon.settings import Settings

if TYPE_CHECKING:
    from invrecon.models import Model


TILES = "the autoencoder works in tiles (--tiling), for want of memory: the picture may lose several dB"
_WAYS = {True: "in tiles", False: "as a whole"}


def check_model(seed: Seed, path: Path, model: Model) -> None:
    """Raises InputError where `model` isn't what `seed` was made with; the text names what differs."""
    with blamed(path):
        model.check(seed.recipe)
        _check_model(seed, path, model)


@contextmanager
def blamed(path: Path) -> Iterator[None]:
    """Names a seed file in what it makes a model raise, as an InputError: others of the same run may do."""
    try:
        yield
    except (UsageError, ModelError) as error:
        raise InputError(f"{path}: {error}") from error


def _check_model(seed: Seed, path: Path, model: Model) -> None:
    channels = seed.latents.shape[1]
    if seed.header["fingerprint"] == model.fingerprint and channels != model.latent_channels:
        raise InputError(
            f"{path}: damaged seed file, {channels} latent channels "
            f"where the model has {model.latent_channels}"
        )
    height, width = (side * model.downsampling for side in seed.latents.shape[2:])
    if channels == model.latent_channels and (width, height) != (seed.recipe.width, seed.recipe.height):
        raise InputError(
            f"{path}: damaged seed file, its latents are those of {width} x {height} pixels, "
            f"not of {seed.recipe.width} x {seed.recipe.height}"
        )
    if reason := mismatch(seed.header, seed.recipe, model):
        raise InputError(f"{path}: {reason}")


def unchecked(seed: Seed) -> list[str]:
    """What `check_model` couldn't check, since the seed file is of an earlier invrecon."""
    missing = [name for name in ("identity", "schedule", "tiling") if name not in seed.header]
    if not missing:
        return []
    return [f"made by an earlier invrecon, which didn't note {', '.join(missing)}: these are not checked"]


def caveats(seed: Seed, model: Model, dtype: str = "") -> list[str]:
    """What a person should know of a seed that `check_model` let pass and that is regenerated: what wasn't
    checked, and where the model runs otherwise than when the seed was found.

    Args:
        dtype: in which it is regenerated; the model's own where it is empty.
    """
    header, recipe = seed.header, seed.recipe
    told = unchecked(seed)
    dtype = dtype or str(model.dtype).removeprefix("torch.")
    if header["dtype"] != dtype:
        told.append(f"found in {header['dtype']}, regenerated in {dtype}: expect less")
    tiled = model.tiled(recipe.width, recipe.height)
    if header.get("tiling", tiled) != tiled:
        told.append(
            f"the photo was encoded {_WAYS[header['tiling']]}, and is decoded {_WAYS[tiled]}: expect less"
        )
    elif tiled:
        told.append(TILES)
    return told


def passed_over(seed: Seed, settings: Settings) -> list[str]:
    """Names the settings that a user gave for a seed which has others of its own; these are kept."""
    usual, recipe = Settings(**card_settings(settings.model)), seed.recipe
    given = [
        name.replace("_", " ")
        for name in ("prompt", "negative_prompt", "guidance_scale", "num_inference_steps", "sampler")
        if getattr(settings, name) not in (getattr(usual, name), getattr(recipe, name))
    ]
    return [f"the seed keeps its own {', '.join(given)}, not what was given"] if given else []


def check_photo(seed: Seed, path: Path, photo: Path) -> None:
    """Raises InputError where `seed` was not made from the file `photo`."""
    origin = seed.header.get("photo")
    if not isinstance(origin, dict):
        raise InputError(f"{path}: belongs to no photo; `invrecon reconstruct` gives its picture")
    loaded, canvas = load_photo(photo), canvas_of(seed, path)
    if origin.get("sha256") != loaded.sha256:
        raise InputError(f"{path}: was not made from {photo}")
    if canvas.photo_size != loaded.rgb.size:
        sizes = ["{} x {}".format(*size) for size in (canvas.photo_size, loaded.rgb.size)]
        raise InputError(
            f"{path}: made from {sizes[0]} pixels, and {photo} has {sizes[1]}; make the seed anew"
        )


def canvas_of(seed: Seed, path: Path) -> Canvas:
    """How the photo of a seed lay on the canvas. Raises InputError where the seed belongs to no photo, or
    doesn't say.
    """
    match seed.header.get("photo"):
        case {"size": [int(width), int(height)], "fit": "crop" | "pad" | "stretch" as fit, "box": [*box]}:
            pass
        case _:
            raise InputError(f"{path}: belongs to no photo, or the photo's place in its header is damaged")
    recipe, room = seed.recipe, (width, height)
    size = recipe.width, recipe.height
    sides = size if fit == "pad" else room
    if len(box) != 4 or not all(isinstance(edge, int) for edge in box):
        raise InputError(f"{path}: damaged seed file, the photo's box is not four numbers")
    left, top, right, bottom = box
    if not (0 <= left < right <= sides[0] and 0 <= top < bottom <= sides[1]):
        raise InputError(f"{path}: damaged seed file, the photo's box lies outside of it")
    return Canvas(room, size, fit, (left, top, right, bottom))
