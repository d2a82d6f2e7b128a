"""The seed file: noise that regenerates a photo, with everything needed to do so, in one safetensors file.

Tensors: `latents`, the seed noise as the stock pipeline takes it, and `image_latents`, z_0; both (1, C, h,
w), float32. `mask`, where an edit was confined to a part of the picture: (H, W), uint8, 255 where it may
happen. Header: one JSON document under the key `invrecon`; its fields are those of `REQUIRED` and more.
"""

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from invrecon.errors import InputError, UsageError
from invrecon.settings import SAMPLERS, Recipe
from invrecon.writing import replacing

FORMAT = 2
ENDING = ".seed.safetensors"
MAX_BYTES = 1 << 30

REQUIRED: dict[str, type | tuple[type, ...]] = {
    "format": int,
    "model": str,
    "fingerprint": str,
    "scheduler": dict,
    "timesteps": list,
    "num_inference_steps": int,
    "prompt": str,
    "negative_prompt": str,
    "guidance_scale": (int, float),
    "sampler": str,
    "dtype": str,
    "width": int,
    "height": int,
}


@dataclass(frozen=True)
class Seed:
    """Seed noise and image latents, (1, C, h, w) float32 on the CPU, with the header that explains them; an
    edit's mask, if any.
    """

    latents: Tensor
    image_latents: Tensor
    header: dict[str, Any]
    mask: Tensor | None = None

    @property
    def recipe(self) -> Recipe:
        """What leads from the seed to the picture."""
        return Recipe(**{field.name: self.header[field.name] for field in fields(Recipe)})


def save_seed(seed: Seed, path: Path | str, overwrite: bool = True) -> None:
    """Writes beside `path`, then renames, so that there is never half a file.

    Args:
        seed: of an inversion, an edit or a new picture.
        path: by custom it ends in `.seed.safetensors`.
        overwrite: whether a file that is there may be replaced.

    Raises:
        InvreconError: the file can't be written, or exists and isn't to be overwritten.
    """
    tensors = {"latents": seed.latents.contiguous(), "image_latents": seed.image_latents.contiguous()}
    if seed.mask is not None:
        tensors["mask"] = seed.mask.contiguous()
    data = save(tensors, metadata={"invrecon": json.dumps(seed.header, allow_nan=False, ensure_ascii=False)})
    with replacing(Path(path), overwrite) as partial:
        partial.write_bytes(data)


def load_seed(path: Path | str) -> Seed:
    """Reads and checks a seed file; nothing in it is ever executed.

    Args:
        path: a seed file of format 1 or 2.

    Returns:
        Its tensors and its header, in the form of format 2.

    Raises:
        InputError: it is missing, damaged, or not a seed file; the text says which.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: larger than any seed file; is it a checkpoint?")
        with safe_open(path, "pt") as file:
            metadata, names = file.metadata() or {}, set(file.keys())
            if "invrecon" not in metadata:
                raise InputError(f"{path}: a safetensors file, but not a seed file of invrecon")
            if missing := {"latents", "image_latents"} - names:
                raise InputError(f"{path}: damaged seed file, {' and '.join(sorted(missing))} missing")
            latents, image_latents = file.get_tensor("latents"), file.get_tensor("image_latents")
            mask = file.get_tensor("mask") if "mask" in names else None
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise InputError(f"{path}: not a whole safetensors file ({error})") from error
    header = _check_header(path, metadata["invrecon"])
    _check_tensors(path, latents, image_latents)
    seed = Seed(latents, image_latents, header, mask)
    try:
        recipe = seed.recipe
    except UsageError as error:
        raise InputError(f"{path}: damaged seed file, {error}") from error
    if mask is not None and (mask.dtype != torch.uint8 or mask.shape != (recipe.height, recipe.width)):
        raise InputError(
            f"{path}: damaged seed file, mask is {mask.dtype} {tuple(mask.shape)}, not uint8 of the picture's size"
        )
    return seed


def _check_header(path: Path, text: str) -> dict[str, Any]:
    """The header in the form of format 2. Raises InputError where it is damaged."""
    try:
        header = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path}: damaged seed file, its header is not JSON") from error
    if not isinstance(header, dict):
        raise InputError(f"{path}: damaged seed file, its header is not a JSON object")
    if header.get("format") not in (1, FORMAT):
        raise InputError(
            f"{path}: seed file of format {header.get('format')!r:.20}; this invrecon reads formats 1 and {FORMAT}"
        )
    if header["format"] == 1:  # squares, and at first DDIM alone
        header = {"width": header.get("size"), "height": header.get("size"), "sampler": "ddim"} | header
    for key, kind in REQUIRED.items():
        if not isinstance(header.get(key), kind) or isinstance(header[key], bool):
            raise InputError(
                f"{path}: damaged seed file, header field {key!r} is missing or of the wrong type"
            )
    if header["sampler"] not in SAMPLERS[1:]:
        raise InputError(
            f"{path}: damaged seed file, or of a later invrecon: its sampler is {header['sampler']!r:.20}"
        )
    return header


def _check_tensors(path: Path, latents: Tensor, image_latents: Tensor) -> None:
    for name, tensor in (("latents", latents), ("image_latents", image_latents)):
        if tensor.dtype != torch.float32 or tensor.ndim != 4 or len(tensor) != 1 or tensor.numel() == 0:
            raise InputError(
                f"{path}: damaged seed file, {name} is {tensor.dtype} {tuple(tensor.shape)}, not float32 (1, C, h, w)"
            )
        if not math.isfinite(tensor.abs().max().item()):
            raise InputError(f"{path}: damaged seed file, {name} has values that are not finite")
    if latents.shape != image_latents.shape:
        raise InputError(
            f"{path}: damaged seed file, latents {tuple(latents.shape)} and image_latents {tuple(image_latents.shape)} differ"
        )
