"""What can't be derived from a pipeline: the meaning of its guidance argument, and what to leave out. Data
only."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from invrecon.errors import UsageError
from invrecon.settings import Recipe


@dataclass(frozen=True)
class Conventions:
    """How one class of pipelines is called.

    Args:
        guidance: the argument that holds the guidance scale.
        unguided: its value that means no guidance: 1 where the prediction is  neg + w (pos - neg),  0 where
            it is  pos + g (pos - neg).
        told: whether guidance is an input of the network, not a matter of two branches.
        negative: the negative prompt without which guidance is off, where there is such.
        defaults: arguments for what would change prompt or size behind the caller's back, or cost at each
            call.
    """

    guidance: str = "guidance_scale"
    unguided: float = 1.0
    told: bool = False
    negative: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def weight(self, guidance_scale: float) -> float:
        """w in  neg + w (pos - neg)  of the pipeline's own value."""
        return 1.0 if self.told else max(1.0, guidance_scale + 1.0 - self.unguided)


_TABLE = {
    "FluxPipeline": Conventions(told=True),
    "FluxControlNetPipeline": Conventions(told=True),
    "Flux2Pipeline": Conventions(told=True),
    "ErnieImagePipeline": Conventions(defaults={"use_pe": False}),
    "HunyuanImagePipeline": Conventions("distilled_guidance_scale", told=True),
    "Krea2Pipeline": Conventions(unguided=0.0),
    "LongCatImagePipeline": Conventions(defaults={"enable_prompt_rewrite": False}),
    "QwenImagePipeline": Conventions("true_cfg_scale", negative=" "),
    "QwenImageControlNetPipeline": Conventions("true_cfg_scale", negative=" "),
    "QwenImage21Pipeline": Conventions("true_cfg_scale", negative=" ", defaults={"use_kv_cache": False}),
    "ZImagePipeline": Conventions(unguided=0.0),
    "ZImageControlNetPipeline": Conventions(unguided=0.0),
}
_ANY = {"use_resolution_binning": False}


def conventions(pipeline: Any) -> Conventions:
    """Those of a pipeline's class; an LCM's U-Net is told the guidance in any of them."""
    own = _TABLE.get(type(pipeline).__name__, Conventions())
    network = getattr(pipeline, "unet", None)
    told = network is not None and network.config.get("time_cond_proj_dim") is not None
    return replace(own, told=True) if told else own


def parameters(pipeline: Any) -> Mapping[str, inspect.Parameter]:
    """The arguments of a pipeline's call."""
    kind: Any = type(pipeline)
    return _parameters(kind)


@cache
def _parameters(kind: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(kind.__call__).parameters


def completed(pipeline: Any, call: Mapping[str, Any]) -> dict[str, Any]:
    """A user's arguments, and what the table adds to them."""
    there, own = parameters(pipeline), conventions(pipeline)
    added = {name: value for name, value in (_ANY | dict(own.defaults)).items() if name in there}
    beside = {name.removesuffix("_embeds"): None for name in call if name.endswith("prompt_embeds")}
    full = added | {name: none for name, none in beside.items() if name in there} | dict(call)
    if own.negative and call.get("negative_prompt_embeds") is None and not call.get("negative_prompt"):
        full["negative_prompt"] = own.negative
    return full


def translated(pipeline: Any, recipe: Recipe) -> dict[str, Any]:
    """A recipe as the arguments of a pipeline's call, by its own names.

    Raises:
        UsageError: it takes no negative prompt, and one is given.
    """
    there, own = parameters(pipeline), conventions(pipeline)
    if recipe.negative_prompt and "negative_prompt" not in there:
        raise UsageError(f"{type(pipeline).__name__} takes no negative prompt: leave it out")
    names = ("prompt", "negative_prompt", "num_inference_steps", "height", "width")
    call = {name: getattr(recipe, name) for name in names}
    call[own.guidance] = recipe.guidance_scale
    return {name: value for name, value in call.items() if name in there}
