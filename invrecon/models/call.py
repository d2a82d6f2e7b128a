"""The arguments that the user of a pipeline calls it with, beside settings and recipes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from invrecon.errors import UsageError
from invrecon.models.arguments import noted
from invrecon.models.identity import networks_of
from invrecon.models.probing.conventions import completed, conventions, translated
from invrecon.settings import Recipe, Settings

GRIDS = ("sigmas", "timesteps")
"""Arguments that hold one number for each step."""
RECIPE = ("prompt", "negative_prompt", "num_inference_steps", "height", "width")
"""Arguments that a recipe holds under the same names."""


class Call:
    """A user's arguments, and what a recipe makes of them.

    Args:
        pipeline: that is called.
        given: the arguments, but for `latents` and `output_type`; None is as good as left out.
    """

    def __init__(self, pipeline: Any, given: Mapping[str, Any]) -> None:
        self.pipeline = pipeline
        self.given = {name: value for name, value in given.items() if value is not None}
        self.guidance = conventions(pipeline).guidance

    @property
    def base(self) -> dict[str, Any]:
        """What the pipeline is called with where no recipe is given."""
        prompted = any(name.startswith("prompt") for name in self.given)
        return self.given if prompted else {"prompt": ""} | self.given

    def told(self) -> dict[str, tuple[Any, str]]:
        """Settings that the arguments say: their values, and where they are said.

        Raises:
            UsageError: an argument can't be a setting's.
        """
        told: dict[str, tuple[Any, str]] = {}
        for name in ("prompt", "negative_prompt"):
            if texts := [argument for argument in self.given if argument.startswith(name)]:
                told[name] = self._text(name), name if name in texts else texts[0]
        if self.guidance in self.given:
            value = self.given[self.guidance]
            told["guidance_scale"] = float(value), f"{self.guidance}={value}"
        if "num_inference_steps" in self.given:
            steps = self.given["num_inference_steps"]
            told["num_inference_steps"] = steps, f"num_inference_steps={steps}"
        for name in GRIDS:
            if name in self.given:
                told["num_inference_steps"] = len(self.given[name]), name
        if {"height", "width"} & self.given.keys():
            if not {"height", "width"} <= self.given.keys():
                raise UsageError("a size needs both: give height and width")
            size = f"{self.given['width']}x{self.given['height']}"
            told["size"] = size, f"size {size}"
        return told

    def settled(self, settings: Settings, own: Mapping[str, tuple[Any, str]]) -> Settings:
        """The settings with what the arguments say in the place of defaults.

        Args:
            own: what the pipeline itself says, in the form of `told`.

        Raises:
            UsageError: a setting contradicts an argument.
        """
        told = self.told() | dict(own)
        for name, (value, source) in told.items():
            asked = getattr(settings, name)
            if asked not in (getattr(Settings, name), value):
                raise UsageError(
                    f"the settings' {name} {asked!r} contradicts the pipeline's {source}: leave one out"
                )
        if settings.auto_guidance and "guidance_scale" in told:
            source = told["guidance_scale"][1]
            raise UsageError(
                f"the settings' auto_guidance contradicts the pipeline's {source}: leave one out"
            )
        return replace(settings, **{name: value for name, (value, _) in told.items()})

    def under(self, recipe: Recipe) -> dict[str, Any]:
        """What a recipe changes in the arguments."""
        changes = translated(self.pipeline, recipe)
        told = self.told()
        for name, argument in (
            ("guidance_scale", self.guidance),
            ("num_inference_steps", "num_inference_steps"),
        ):
            if name in told and told[name][0] == getattr(recipe, name):
                changes.pop(argument, None)
            elif name == "num_inference_steps":
                changes |= {grid: None for grid in GRIDS if grid in self.given}
        texts = {name: changes.pop(name) for name in ("prompt", "negative_prompt") if name in changes}
        return changes | self.prompts(**{"prompt": "", "negative_prompt": ""} | texts)

    def prompts(self, prompt: str, negative_prompt: str) -> dict[str, Any]:
        """Arguments for prompts other than the user's, whose embeddings they replace."""
        changes: dict[str, Any] = {}
        for sign, text in (("", prompt), ("negative_", negative_prompt)):
            if text == self._text(f"{sign}prompt"):
                continue
            if not any(name.startswith("text_encoder") for name in networks_of(self.pipeline)):
                kind = type(self.pipeline).__name__
                raise UsageError(f"{kind} has no text encoder for the prompt {text!r:.60}: leave it out")
            own = (f"{sign}prompt", f"{sign}pooled_prompt")
            changes |= {name: None for name in self.given if name.startswith(own)}
            changes[f"{sign}prompt"] = text
        return changes

    def noted(self, recipe: Recipe) -> dict[str, Any]:
        """The user's arguments under a recipe, but for what the recipe itself says, as JSON."""
        full = completed(self.pipeline, self.base | self.under(recipe))
        names = (self.given.keys() & full.keys()) - {*RECIPE, self.guidance}
        return {name: noted(full[name]) for name in sorted(names) if full[name] is not None}

    def _text(self, name: str) -> str:
        """A prompt; "" where it is given as embeddings, or not at all."""
        text = self.given.get(name, "")
        if isinstance(text, list) and len(text) == 1:
            text = text[0]
        if not isinstance(text, str):
            raise UsageError(f"{name} must be one text, not {type(text).__name__}")
        return text
