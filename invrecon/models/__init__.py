"""Checkpoints: the only room that knows diffusers. What leaves it is a `Model` of plain tensors and functions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from invrecon.errors import ModelError

if TYPE_CHECKING:
    from invrecon.models.model import Model

BUNDLED = Path(__file__).parent / "bundled"


def bundled_models() -> list[str]:
    """Names of the checkpoints that come with the package."""
    return sorted(index.parent.name for index in BUNDLED.glob("*/model_index.json"))


def model_folder(name: str) -> Path:
    """The folder of a bundled model, or of a checkpoint on disk in the diffusers layout.

    Raises:
        ModelError: neither is there.
    """
    if name in bundled_models():
        return BUNDLED / name
    folder = Path(name)
    if (folder / "model_index.json").is_file():
        return folder
    if folder.is_dir():
        raise ModelError(f"{name} is a folder without model_index.json: not a checkpoint in the diffusers layout")
    raise ModelError(f"no model {name!r}: bundled are {', '.join(bundled_models())}; or give a diffusers folder")


def load_model(name: str = "mini", device: str = "auto", dtype: str = "float32") -> Model:
    """Loads a checkpoint by bundled name or folder; never from a network.

    Args:
        name: see `model_folder`.
        device: "auto" takes CUDA, then Apple's MPS, then the CPU.
        dtype: of the networks: "float32", "float16" or "bfloat16". Latents and autoencoder stay float32.

    Raises:
        ModelError: it isn't there, is damaged, isn't safetensors, or can't be inverted.
    """
    from invrecon.models.quiet import quiet

    with quiet():
        from invrecon.models.load import load

    from invrecon.models.checkpoint import Checkpoint

    return load(Checkpoint(name, model_folder(name)), device, dtype)
