"""The seed file: noise that regenerates a photo, with everything needed to do so, in one safetensors file.

Tensors: `latents`, the seed noise as the stock pipeline takes it, and `image_latents`, z_0; both (1, C, h,
w), float32, or float16 where the file was to be small. `mask`, where an edit was confined to a part of the
picture: (H, W), uint8, 255 where it may happen. Header: one JSON object under the key `invrecon`. Its fields
in format 2, those of `REQUIRED` first:

    format              int: 2
    model               str: the model's name, as its user gave it
    fingerprint         str: SHA-256 over names and bytes of the weight files
    scheduler           {"class": str, "config": object}: diffusers' scheduler that the seed is for
    timesteps           [number]: t_0 >= t_1 >= ..., what the network is given at each step
    num_inference_steps int
    prompt, negative_prompt   str
    guidance_scale      number: the value of the pipeline's argument
    sampler             str: "ddim", "euler" or "dpm++"; "auto" for another scheduler of a live pipeline
    dtype               str: of the network that the seed was found with: "float32", "float16", "bfloat16"
    width, height       int: of the picture, pixels
    guidance_argument   str: the name of the pipeline's argument that takes guidance_scale
    schedule            object: the sampler's steps as numbers. Step k takes the latents z to
                        A_k z + B_k e(c_k z, t_k) + C_k x_(k-1), where e is what the network predicts and
                        x_(k-1) = P z + Q e of the step before. {"prediction": str, in what form e is taken
                        ("epsilon", "v_prediction", "sample", "flow"), "A", "B", "scales" (c): [number],
                        "memory": {"C", "P", "Q": [number]}, or null for a sampler without memory}
    identity            object: what the picture depends on besides the seed; see `models.identity`
    arguments           object: what a live pipeline is called with besides; see `models.arguments`
    tiling              bool: whether the autoencoder worked in tiles
    versions            {package: str}: of invrecon, torch, diffusers and transformers

    of a photo's seed:
    inversion           str: "lbo" or "ddim"
    solver, rtol        str, number: how each step was solved, and how exactly
    mean_evaluations    number, or null: the evaluations a step that were spent in the place of rtol
    effort              str: "quick", "standard" or "best", which set what the user didn't
    photo               {"sha256": str, of the file; "size": [width, height], pixels; "fit": "crop", "pad" or
                        "stretch"; "box": [left, top, right, bottom], the part of the photo that is seen, or
                        with "pad" the part of the picture that shows it, pixels}
    steps               [object]: one a step, in the order of inversion; "float32": whether it was taken in
                        float32 because the network in `dtype` gave values that aren't finite
    boost               object, or null without boosting: its weights and its rounds
    guidance_curve      [object], or null: the search for the guidance scale
    health, plain_health   object: statistics of the seed, and of the seed before boosting or null

    of others:
    edit                object: the settings of an edit that starts from the seed
    imagined            object: the references that a new seed was drawn from, and how

Format 1 has one side, `size`, in place of width and height, may lack `sampler`, which is "ddim" then, and
has none of `guidance_argument`, `schedule`, `identity` and `tiling`. Fields that a reader doesn't know are
left alone.
"""

import hashlib
import json
import math
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from invrecon.errors import InputError, InvreconError, UsageError
from invrecon.formats import DTYPES
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
OPTIONAL: dict[str, type] = {
    "guidance_argument": str,
    "schedule": dict,
    "identity": dict,
    "arguments": dict,
    "tiling": bool,
    "versions": dict,
}
"""Fields that format 1 and the first files of format 2 don't have."""


@dataclass(frozen=True)
class Seed:
    """Seed noise and image latents, (1, C, h, w) float32 on the CPU, with the header that explains them; an
    edit's mask, if any; the SHA-256 of the file that they were read from, if any.
    """

    latents: Tensor
    image_latents: Tensor
    header: dict[str, Any]
    mask: Tensor | None = None
    sha256: str = ""

    @property
    def recipe(self) -> Recipe:
        """What leads from the seed to the picture."""
        return Recipe(**{field.name: self.header[field.name] for field in fields(Recipe)})


def save_seed(seed: Seed, path: Path | str, overwrite: bool = True, dtype: str = "float32") -> str:
    """Writes beside `path`, then renames, so that there is never half a file.

    Args:
        seed: of an inversion, an edit or a new picture.
        path: by custom it ends in `.seed.safetensors`.
        overwrite: whether a file that is there may be replaced.
        dtype: of both latents in the file, "float32" or "float16".

    Returns:
        The file's SHA-256.

    Raises:
        InvreconError: the file can't be written, or exists and isn't to be overwritten; or latents are too
            large for the dtype.
    """
    kept = torch.float16 if dtype == "float16" else torch.float32
    tensors = {"latents": seed.latents.to(kept), "image_latents": seed.image_latents.to(kept)}
    if dtype == "float16" and not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise InvreconError(f"{path}: latents aren't finite in {dtype}; take --seed-dtype float32")
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if seed.mask is not None:
        tensors["mask"] = seed.mask.contiguous()
    try:
        text = json.dumps(seed.header, allow_nan=False, ensure_ascii=False)
    except ValueError as error:
        raise InvreconError(
            f"{path}: not written, its figures aren't finite: try the model with `invrecon models check`"
        ) from error
    data = save(tensors, metadata={"invrecon": text})
    with replacing(Path(path), overwrite) as partial:
        partial.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


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
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise InputError(f"{path}: not a whole safetensors file ({error}); get a fresh copy") from error
    header = _check_header(path, metadata["invrecon"])
    _check_tensors(path, latents, image_latents)
    seed = Seed(latents.float(), image_latents.float(), header, mask, sha256)
    try:
        recipe = seed.recipe
    except UsageError as error:
        raise InputError(f"{path}: damaged seed file, {error}") from error
    if mask is not None and (mask.dtype != torch.uint8 or mask.shape != (recipe.height, recipe.width)):
        raise InputError(
            f"{path}: damaged seed file, mask is {mask.dtype} {tuple(mask.shape)}, not uint8 of the "
            "picture's size"
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
            f"{path}: seed file of format {header.get('format')!r:.20}; this invrecon reads formats 1 and "
            f"{FORMAT}; use the version that made it"
        )
    if header["format"] == 1:  # squares, and at first DDIM alone
        header = {"width": header.get("size"), "height": header.get("size"), "sampler": "ddim"} | header
    for key, kind in REQUIRED.items():
        if not isinstance(header.get(key), kind) or isinstance(header[key], bool):
            raise InputError(
                f"{path}: damaged seed file, header field {key!r} is missing or of the wrong type"
            )
    for key, kind in OPTIONAL.items():
        if key in header and not isinstance(header[key], kind):
            raise InputError(f"{path}: damaged seed file, header field {key!r} is of the wrong type")
    for key, whole in (("schedule", _is_schedule), ("identity", _is_identity)):
        if key in header and not whole(header[key]):
            raise InputError(f"{path}: damaged seed file, header field {key!r} is not as it should be")
    if header["dtype"] not in DTYPES:
        raise InputError(f"{path}: damaged seed file, its dtype is {header['dtype']!r:.20}")
    if header["sampler"] not in SAMPLERS:
        raise InputError(
            f"{path}: damaged seed file, or of a later invrecon: its sampler is {header['sampler']!r:.20}"
        )
    return header


def _is_schedule(schedule: dict[str, Any]) -> bool:
    memory = schedule.get("memory", ())  # None says that there is none
    lists = [schedule.get(name) for name in ("A", "B", "scales")]
    if memory is not None:
        lists += [memory.get(name) for name in "CPQ"] if isinstance(memory, dict) else [None]
    return schedule.get("prediction") in ("epsilon", "v_prediction", "sample", "flow") and all(
        isinstance(each, list) and all(map(_is_finite, each)) for each in lists
    )


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and -sys.float_info.max <= value <= sys.float_info.max


def _is_identity(identity: dict[str, Any]) -> bool:
    kinds = ("weights", "configuration", "tokenizers", "attachments")
    return all(isinstance(identity.get(kind), dict) for kind in kinds) and all(
        map(_is_attachment, identity["attachments"].values())
    )


def _is_attachment(value: Any) -> bool:
    """Whether a file loaded onto a checkpoint is fully told; what else may be attached is only compared."""
    if not isinstance(value, dict) or "file" not in value:
        return True
    texts = (value["file"], value.get("sha256"), value.get("word", ""))
    scales = value.get("scales", {})
    if not all(isinstance(text, str) for text in texts) or not isinstance(scales, dict):
        return False
    weight = value.get("weight", 0 if "word" in value else None)
    return all(map(_is_finite, (weight, *(scale for scale in scales.values() if scale is not None))))


def _check_tensors(path: Path, latents: Tensor, image_latents: Tensor) -> None:
    for name, tensor in (("latents", latents), ("image_latents", image_latents)):
        if (
            tensor.dtype not in (torch.float32, torch.float16)
            or tensor.ndim != 4
            or len(tensor) != 1
            or tensor.numel() == 0
        ):
            raise InputError(
                f"{path}: damaged seed file, {name} is {tensor.dtype} {tuple(tensor.shape)}, "
                "not float32 or float16 (1, C, h, w)"
            )
        if not math.isfinite(tensor.abs().max().item()):
            raise InputError(f"{path}: damaged seed file, {name} has values that are not finite")
    if latents.shape != image_latents.shape:
        raise InputError(
            f"{path}: damaged seed file, latents {tuple(latents.shape)} and "
            f"image_latents {tuple(image_latents.shape)} differ"
        )


def load_key(path: Path | str) -> Tensor:
    """Reads noise to compare with: a seed file's latents, or the only tensor of another safetensors file.

    Raises:
        InputError: it is missing or damaged, has several tensors, or its values are not finite or all zero.
    """
    path = Path(path)
    try:
        with safe_open(path, "pt") as file:
            if "invrecon" in (file.metadata() or {}):
                return load_seed(path).latents
            names = list(file.keys())
            if len(names) != 1:
                raise InputError(f"{path}: has {len(names)} tensors; a key is one tensor, or a seed file")
            key = file.get_tensor(names[0]).float()
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise InputError(f"{path}: not a whole safetensors file ({error}); get a fresh copy") from error
    if not key.any() or not key.isfinite().all():
        raise InputError(f"{path}: its values are not finite, or all zero; give another key")
    return key
