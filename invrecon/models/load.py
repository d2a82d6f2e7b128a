"""From a checkpoint on disk to a `Model` on a device."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import diffusers
import torch

from invrecon.errors import ModelError
from invrecon.models.adapted import AdaptedModel
from invrecon.models.checkpoint import Checkpoint
from invrecon.models.checks import check_finite, check_parts
from invrecon.models.compiling import compile_network
from invrecon.models.families import Family, family_of
from invrecon.models.identity import networks_of
from invrecon.models.model import Model
from invrecon.models.probed import ProbedModel
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
    """Loads a checkpoint through the stock pipeline of its family, safetensors only, without network; see
    `load_model`.

    Raises:
        ModelError: something in it is missing, damaged, or of another kind.
    """
    target = pick_device(device)
    family = family_of(checkpoint.kind)
    pipeline = checkpoint.open(family.pipeline if family else text_to_image(checkpoint), dtype)
    if tiling:
        pipeline.vae.enable_tiling()
    if family:
        return ready(checkpoint, pipeline, family, target, offload, compiled)
    parts = networks_of(pipeline)
    with told_of(checkpoint):
        for name, module in parts.items():
            check_finite(module.requires_grad_(False).eval(), name)
    with quiet():
        place(pipeline, target, offload)
    if compiled:
        for network in networks(pipeline):
            compile_network(network, target)
    return ProbedModel(pipeline, {}, checkpoint, offload, compiled)


def text_to_image(checkpoint: Checkpoint) -> Any:
    """The class of diffusers that a checkpoint names. Raises ModelError where it draws nothing from text, or
    its latents can't be given."""
    kind = getattr(diffusers, checkpoint.kind, None)
    named = f"can't load the model {checkpoint.name}: it is a {checkpoint.kind}"
    if not (isinstance(kind, type) and issubclass(kind, diffusers.DiffusionPipeline)):
        raise ModelError(f"{named}, which the installed diffusers doesn't have")
    arguments = inspect.signature(kind.__call__).parameters
    needed = [
        name
        for name, one in arguments.items()
        if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD and name != "self"
    ]
    parts = {"vae", "scheduler"} - {*checkpoint.parts}
    if not {"prompt", "latents"} <= {*arguments} or {*needed} - {"prompt"} or parts:
        raise ModelError(
            f"{named}, and only text-to-image pipelines with a vae, a scheduler and latents= can be inverted"
        )
    return kind


@contextmanager
def told_of(checkpoint: Checkpoint) -> Iterator[None]:
    """Names the checkpoint in a ModelError."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"can't load the model {checkpoint.name}: {error}") from error


def ready(
    checkpoint: Checkpoint,
    pipeline: Any,
    family: Family,
    device: torch.device,
    offload: str = "none",
    compiled: bool = False,
) -> AdaptedModel:
    """A model of a pipeline in memory: its parts are checked, frozen, laid out and put on the device.

    Raises:
        ModelError: a part is missing, or can't be put there.
    """
    for part in (family.network, "vae", *family.encoders):
        module = getattr(pipeline, part)
        if module is not None:
            module.requires_grad_(False).eval()
        elif part not in family.optional:
            raise ModelError(
                f"can't load the model {checkpoint.name}: it has no {part}, which {family.title} can't do "
                "without"
            )
    with told_of(checkpoint):
        check_parts(pipeline, family.network, family.encoders)
    with quiet():
        pipeline.vae.to(torch.float32)
        for network in filter(None, (getattr(pipeline, "unet", None), pipeline.vae)):
            network.to(
                memory_format=torch.channels_last
            )  # in which convolutions are about a tenth faster, on a CPU too
        place(pipeline, device, offload)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32 for products; convolutions have it by default
    if compiled:
        compile_network(getattr(pipeline, family.network), device)
    return AdaptedModel(checkpoint, pipeline, family, offload, compiled)


def place(pipeline: Any, device: torch.device, offload: str) -> None:
    """Puts a pipeline on a device, or lets its parts wait on the CPU. Raises ModelError where that can't "
    "be."""
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
    if not there[device]:
        raise ModelError(f"device {device} isn't available to torch here: use --device auto or cpu")
    return torch.device(device)
