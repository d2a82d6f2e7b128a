"""Pipeline classes of diffusers: what can't be derived from them. Data, and questions about it."""

import inspect
from typing import Any

import diffusers

from invrecon.errors import ModelError

TITLES = {
    "StableDiffusionPipeline": "Stable Diffusion 1.x, 2.x",
    "StableDiffusionXLPipeline": "Stable Diffusion XL",
    "StableDiffusion3Pipeline": "Stable Diffusion 3, 3.5",
    "FluxPipeline": "Flux",
}
"""For people, and of those whose predictions are known to hang on latents and timestep alone, which is tried
for others."""

_SAME_NETWORK = {
    "LatentConsistencyModelPipeline": "StableDiffusionPipeline",
    "LatentConsistencyModelImg2ImgPipeline": "StableDiffusionPipeline",
}
_OPTIONAL = {"StableDiffusion3Pipeline": ("text_encoder_3", "tokenizer_3")}
"""Parts that a pipeline's call does without, though its class doesn't say so."""


def text_to_image(kind: str, parts: set[str]) -> Any:
    """The class that draws from text with the network that a checkpoint's class names: for one that changes
    pictures, the one beside it. A network that takes more than the latents is refused by its channels.

    Args:
        kind: as model_index.json names it.
        parts: of the checkpoint.

    Raises:
        ModelError: the class isn't there, draws nothing from text, or its latents can't be given.
    """
    name = _SAME_NETWORK.get(kind, kind.replace("Img2Img", "").replace("Inpaint", ""))
    made = getattr(diffusers, name, None)
    if not (isinstance(made, type) and issubclass(made, diffusers.DiffusionPipeline)):
        raise ModelError(f"it is a {kind}, which diffusers {diffusers.__version__} doesn't have")
    arguments = inspect.signature(made.__call__).parameters
    needed = {
        name
        for name, one in arguments.items()
        if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD and name != "self"
    }
    if "controlnet" in parts:
        raise ModelError(f"it is a {kind}, which wants a control image: give both to Model.from_pipeline")
    if missing := sorted({"vae", "scheduler"} - parts):
        raise ModelError(
            f"its model_index.json names no {missing[0]}, which inversion can't do without: fetch it again"
        )
    if not {"prompt", "latents"} <= {*arguments} or needed - {"prompt"}:
        raise ModelError(
            f"it is a {kind}, and only text-to-image pipelines with a vae, a scheduler and latents= can be "
            "inverted"
        )
    return made


def missing_part(pipeline: Any, left_out: set[str]) -> str:
    """A part that a pipeline's call can't do without and that isn't there; "" where all are.

    Args:
        left_out: parts that the checkpoint says it has none of.
    """
    kind = type(pipeline)
    optional = left_out & {*kind._optional_components, *_OPTIONAL.get(kind.__name__, ())}
    asked = ("transformer", "unet", "vae", "scheduler", "text_encoder", "tokenizer")
    parts = pipeline.components.items()
    return next(
        (name for name, part in parts if part is None and name.startswith(asked) and name not in optional), ""
    )
