"""From a checkpoint on disk to a `Model` on a device."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from invrecon.errors import ModelError, UsageError
from invrecon.models.checkpoint import Checkpoint
from invrecon.models.checks import check_parts
from invrecon.models.compiling import compile_network
from invrecon.models.identity import networks_of
from invrecon.models.kinds import missing_part, text_to_image
from invrecon.models.model import Model
from invrecon.models.probing.rescue import networks
from invrecon.models.quiet import quiet


def load(
    checkpoint: Checkpoint,
    device: str,
    dtype: str,
    offload: str = "none",
    tiling: bool = False,
    compiled: bool = False,
) -> Model:
    """Loads a checkpoint through its stock pipeline, safetensors only, without network; see `load_model`.

    Raises:
        ModelError: something in it is missing, damaged, or of another kind.
    """
    target = pick_device(device)
    dtype = pick_dtype(dtype, target)
    with named(checkpoint), quiet():
        kind = text_to_image(checkpoint.kind, {*checkpoint.parts})
    pipeline = checkpoint.open(kind, dtype)
    if tiling:
        pipeline.vae.enable_tiling()
    return ready(checkpoint, pipeline, target, offload, compiled)


def ready(
    checkpoint: Checkpoint,
    pipeline: Any,
    device: torch.device,
    offload: str = "none",
    compiled: bool = False,
) -> Model:
    """A `Model` of a pipeline in memory: its parts are checked, frozen, laid out and put on the device.

    Raises:
        ModelError: a part is missing, or can't be put there.
    """
    with named(checkpoint):
        if part := missing_part(pipeline, checkpoint.left_out):
            raise ModelError(f"it has no {part}, which {type(pipeline).__name__} can't do without")
        check_parts(pipeline)
    for module in networks_of(pipeline).values():
        module.requires_grad_(False).eval()
    with quiet():
        pipeline.vae.to(torch.float32)
        for part in filter(None, (getattr(pipeline, "unet", None), pipeline.vae)):
            if all(weight.ndim < 5 for weight in part.parameters()):  # not of an autoencoder for videos
                part.to(memory_format=torch.channels_last)  # a tenth faster, on a CPU too
        place(pipeline, device, offload)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32 for products; convolutions have it by default
    if compiled:
        for network in networks(pipeline):
            compile_network(network, device)
    return Model(pipeline, {}, checkpoint, offload, compiled)


@contextmanager
def named(checkpoint: Checkpoint) -> Iterator[None]:
    """Names the checkpoint in a ModelError."""
    try:
        yield
    except ModelError as error:
        start = f"can't load the model {checkpoint.name}"
        raise ModelError(f"{start}: {str(error).removeprefix(f'{start}: ')}") from error


def place(pipeline: Any, device: torch.device, offload: str) -> None:
    """Puts a pipeline on a device, or lets its parts wait on the CPU. Raises ModelError where that
    can't be."""
    if offload == "none":
        pipeline.to(device)
        return
    if device.type != "cuda":
        raise ModelError(f"--offload {offload} needs CUDA, and the device is {device}: leave it out")
    try:
        pipeline.enable_model_cpu_offload(
            device=device
        ) if offload == "model" else pipeline.enable_sequential_cpu_offload(device=device)
    except (ImportError, RuntimeError) as error:
        raise ModelError(
            f"--offload {offload} needs the package accelerate: pip install accelerate"
        ) from error


def pick_device(device: str) -> torch.device:
    """The device of that name, which must be there; "auto" takes CUDA, then MPS, then the CPU."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(kind for kind, available in there.items() if available))
    if "," in device:
        raise UsageError(
            f"several devices ({device}) are for invert, reconstruct and boost: name one of them"
        )
    kind, _, number = device.partition(":")
    if not there[kind] or (number and kind == "cuda" and int(number) >= torch.cuda.device_count()):
        raise ModelError(f"device {device} isn't available to torch here: use --device auto or cpu")
    return torch.device(device)


def pick_dtype(dtype: str, device: torch.device) -> str:
    """The dtype of that name; "auto" takes bfloat16 on CUDA, float16 on cards that have no instructions for
    it, and float32 elsewhere."""
    if dtype != "auto":
        return dtype
    if device.type != "cuda":
        return "float32"
    return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float16"
