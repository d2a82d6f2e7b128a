"""Settings from TOML presets, and captions from TOML or JSON."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from invrecon.errors import UsageError
from invrecon.settings.grades import EFFORTS
from invrecon.settings.run import Settings
from invrecon.settings.table import settings_of
from invrecon.toml import tomllib


def load_settings(
    path: Path | None = None, by_model: Callable[[str], dict[str, Any]] | None = None, **overrides: Any
) -> Settings:
    """Settings from a TOML preset, then from `overrides` that are not None. Where a source names an effort,
    what that sets gives way to the source's other settings, and wins over earlier sources.

    Tables of the preset are left to `load_table`.

    Args:
        by_model: the settings that suit a model, by its name; they give way to preset and overrides.

    Raises:
        UsageError: the file is missing, isn't TOML, or holds a key or value that settings don't have.
    """
    preset = _read(path) if path else {}
    values = _spell({key: value for key, value in preset.items() if not isinstance(value, dict)})
    given = _spell({key: value for key, value in overrides.items() if value is not None})
    suited = by_model(given.get("model", values.get("model", Settings.model))) if by_model else {}
    most_steps = suited.get("num_inference_steps", Settings.num_inference_steps)
    preset, given = (_with_effort(source, most_steps) for source in (_checked(values, path), given))
    return Settings(**suited | preset | given)


def _with_effort(values: dict[str, Any], most_steps: int) -> dict[str, Any]:
    """`values` over what their effort sets; that takes no more steps than suit the model."""
    preset = dict(EFFORTS.get(values.get("effort", ""), {}))
    if preset:
        preset["num_inference_steps"] = min(preset["num_inference_steps"], most_steps)
    return preset | values


def load_table(path: Path | None, name: str) -> dict[str, Any]:
    """The table `[name]` of a TOML preset; empty where there is none.

    Raises:
        UsageError: the file is missing or isn't TOML.
    """
    table = _read(path).get(name, {}) if path else {}
    return table if isinstance(table, dict) else {}


def load_captions(path: Path) -> dict[str, str]:
    """Names of files and what they show, from TOML or JSON. The JSON may be COCO's file of captions, of which
    each picture's first one is taken.

    Raises:
        UsageError: the file is missing, or is anything else.
    """
    if path.suffix.lower() == ".json":
        try:
            captions = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise UsageError(f"can't read {path} as JSON: {error}") from error
        if isinstance(captions, dict) and {"images", "annotations"} <= captions.keys():
            return _of_coco(captions, path)
    else:
        captions = _read(path)
    if not isinstance(captions, dict) or not all(isinstance(text, str) for text in captions.values()):
        raise UsageError(f"{path}: must hold a text for each name, and nothing else")
    return captions


def _of_coco(table: dict[str, Any], path: Path) -> dict[str, str]:
    """The first caption of each picture in a table as captions_val2017.json has it, by file name."""
    try:
        names = {int(picture["id"]): str(picture["file_name"]) for picture in table["images"]}
        captions: dict[str, str] = {}
        for one in table["annotations"]:
            captions.setdefault(names[int(one["image_id"])], " ".join(one["caption"].split()))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{path}: has images and annotations, but not as COCO's captions have them ({error!r:.60}): name "
            "captions_val2017.json or its like, not instances or keypoints"
        ) from error
    return captions


def _spell(values: dict[str, Any]) -> dict[str, Any]:
    """guidance_scale = "auto", or a number that ends an earlier "auto", as settings hold it."""
    for name, one in settings_of(Settings).items():
        if one.auto and values.get(name) == "auto":
            values = {key: value for key, value in values.items() if key != name} | {one.auto: True}
        elif one.auto and name in values:
            values = {one.auto: False} | values
    return values


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"can't read the preset {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} isn't valid TOML: {error}") from error


def _checked(values: dict[str, Any], path: Path | None) -> dict[str, Any]:
    """`values` with whole numbers as floats where settings are."""
    table = settings_of(Settings)
    for key, value in values.items():
        if key not in table:
            raise UsageError(f"{path}: unknown setting {key!r}; known are {', '.join(table)}")
        try:
            table[key].check_type(value)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from error
        if table[key].kind is float and type(value) is int:
            values[key] = float(value)
    return values
