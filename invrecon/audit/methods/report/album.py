"""The pictures of an audit's report, each inside the page."""

import base64
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from invrecon.sheet import error_map

Row = Mapping[str, Any]


def album(photos: Sequence[Row], runs: Sequence[Row], folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Photos and runs with their pictures embedded, runs with a map of errors too. Runs are those at
    published settings or, where there are none, at the largest budget.
    """
    originals = {photo["photo"]: _open(folder, photo["original"]) for photo in photos}
    pages: dict[str, list[dict[str, Any]]] = {"photos": [], "runs": []}
    for photo in photos:
        decoded = _open(folder, photo["autoencoded"])
        pages["photos"].append(
            {**photo, "original": _embed(originals[photo["photo"]]), "autoencoded": _embed(decoded)}
        )
    budgets = {run["budget"] for run in runs}
    chosen = None if None in budgets else max(budgets, default=None)
    for run in (run for run in runs if run["budget"] == chosen):
        original, picture = originals.get(run["photo"]), _open(folder, run["picture"])
        errors = (
            error_map(original, picture) if original and picture and original.size == picture.size else None
        )
        setting = run["setting"] + (", boosted latents" if run["boosted"] else "")
        setting += f", budget {chosen}" if chosen else ""
        pages["runs"].append(
            {**run, "setting": setting, "picture": _embed(picture), "map": _embed(errors, quality=60)}
        )
    return pages


def embedded(folder: Path, name: str | None) -> str | None:
    """The picture `name` as an address that holds it; None where there is none that can be read."""
    return _embed(_open(folder, name))


def _open(folder: Path, name: str | None) -> Image.Image | None:
    """The picture `name` in RGB; None where there is none that can be read."""
    if not name or not (folder / name).resolve().is_relative_to(folder.resolve()):
        return None
    try:
        with Image.open(folder / name) as picture:
            return picture.convert("RGB")
    except OSError:
        return None


def _embed(picture: Image.Image | None, quality: int = 90) -> str | None:
    if picture is None:
        return None
    file = BytesIO()
    picture.save(file, format="WEBP", quality=quality)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
