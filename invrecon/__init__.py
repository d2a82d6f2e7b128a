"""invrecon: the seed noise from which a diffusion model gives a real photo back.

from invrecon import load_model, reconstruct
result = reconstruct("photo.png", load_model("mini"))
result.picture.save("back.png")
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from invrecon.models import load_model
    from invrecon.models.model import Model
    from invrecon.pipeline import (
        boost,
        edit,
        find_guidance,
        imagine,
        interpolate,
        invert,
        invert_batch,
        reconstruct,
        reconstruct_batch,
        verify,
    )
    from invrecon.seedfile import load_seed, save_seed
    from invrecon.settings import EditSettings, Effort, Imagining, Recipe, Settings

__all__ = [
    "EditSettings",
    "Effort",
    "Imagining",
    "Model",
    "Recipe",
    "Settings",
    "boost",
    "edit",
    "find_guidance",
    "imagine",
    "interpolate",
    "invert",
    "invert_batch",
    "load_model",
    "load_seed",
    "reconstruct",
    "reconstruct_batch",
    "save_seed",
    "verify",
]

_ROOMS = {
    "EditSettings": "settings",
    "Effort": "settings",
    "Imagining": "settings",
    "Model": "models.model",
    "Recipe": "settings",
    "Settings": "settings",
    "boost": "pipeline",
    "edit": "pipeline",
    "find_guidance": "pipeline",
    "imagine": "pipeline",
    "interpolate": "pipeline",
    "invert": "pipeline",
    "invert_batch": "pipeline",
    "load_model": "models",
    "load_seed": "seedfile",
    "reconstruct": "pipeline",
    "reconstruct_batch": "pipeline",
    "save_seed": "seedfile",
    "verify": "pipeline",
}


def __getattr__(name: str) -> Any:
    """Imports on first use, so that `invrecon --help` needn't wait for torch."""
    if name not in _ROOMS:
        raise AttributeError(f"module 'invrecon' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"invrecon.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    """Names that `pydoc` and completion list, those that aren't imported yet among them."""
    return sorted({*globals(), *__all__})
