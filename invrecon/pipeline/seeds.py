"""Seed files against the model and the photo that they belong to."""

from __future__ import annotations

import math
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invrecon.errors import InputError
from invrecon.image import Canvas, load_photo
from invrecon.models.identity import differences
from invrecon.pipeline.header import schedule_header, versions
from invrecon.seedfile import Seed

if TYPE_CHECKING:
    from invrecon.models import Model


TILES = "the autoencoder works in tiles (--tiling), for want of memory: the picture may lose several dB"
_WAYS = {True: "in tiles", False: "as a whole"}
TOLERANCE = 1e-4  # relative, of a step's coefficients: float32's rounding over a thousand noise levels


def check_model(seed: Seed, path: Path, model: Model) -> None:
    """Raises InputError where `model` isn't what `seed` was made with; the text names what differs."""
    header, recipe = seed.header, seed.recipe
    _check_identity(header, path, model)
    channels = seed.latents.shape[1]
    if channels != model.latent_channels:
        raise InputError(
            f"{path}: damaged seed file, {channels} latent channels "
            f"where the model has {model.latent_channels}"
        )
    schedule = model.schedule(recipe)
    if list(schedule.timesteps) != header["timesteps"]:
        raise InputError(
            f"{path}: its timesteps are not those that {model.name!r} takes "
            f"in {recipe.num_inference_steps} steps"
        )
    form = model.form(recipe.sampler)
    if "schedule" in header and header["schedule"]["prediction"] == form:
        _check_schedule(header, path, schedule_header(schedule, form))


def unchecked(seed: Seed) -> list[str]:
    """What `check_model` couldn't check, since the seed file is of an earlier invrecon."""
    missing = [name for name in ("identity", "schedule", "tiling") if name not in seed.header]
    if not missing:
        return []
    return [f"made by an earlier invrecon, which didn't note {', '.join(missing)}: these are not checked"]


def caveats(seed: Seed, model: Model) -> list[str]:
    """What a person should know of a seed that `check_model` let pass and that is regenerated: what wasn't
    checked, and where the model runs otherwise than when the seed was found.
    """
    header, recipe = seed.header, seed.recipe
    told = unchecked(seed)
    dtype = str(model.dtype).removeprefix("torch.")
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


def _check_identity(header: dict[str, Any], path: Path, model: Model) -> None:
    then, now = header.get("identity"), model.identity(header["sampler"])
    packages = ("diffusers", "transformers")
    same = all(header.get("versions", {}).get(name) == versions()[name] for name in packages)
    found = differences(then, now, same_versions=same) if then else []
    if header["fingerprint"] != model.fingerprint:
        parts = ", ".join(one.field.removesuffix(" weights") for one in found if " weights" in one.field)
        raise InputError(
            f"{path}: made with other weights ({header['model']!r:.80}) than {model.name!r} has"
            f"{parts and f' in {parts}'}; name its model with --model"
        )
    if found:
        (field, before, after), more = found[0], len(found) - 1
        others = f" ({more} more {'differ' if more > 1 else 'differs'})" if more else ""
        raise InputError(
            f"{path}: made with {field} {before}, and the model has {after} now{others}: "
            "set it back, or name the seed's model with --model"
        )


def _check_schedule(header: dict[str, Any], path: Path, now: dict[str, Any]) -> None:
    then = header["schedule"]
    tables = [{**table, **(table["memory"] or {})} for table in (then, now)]
    for name in ("A", "B", "scales", "C", "P", "Q"):
        before, after = (table.get(name, []) for table in tables)
        pairs = list(zip_longest(before, after, fillvalue=math.nan))
        for step, (old, new) in enumerate(pairs):
            if not math.isclose(old, new, rel_tol=TOLERANCE, abs_tol=1e-6):
                made = (header.get("versions") or {}).get("diffusers", "another version")
                raise InputError(
                    f"{path}: made with coefficient {name} {old:.6g} at step {step}, and the scheduler has "
                    f"{new:.6g} now: use diffusers {made}, which made it (here is {versions()['diffusers']})"
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
