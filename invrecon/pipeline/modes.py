"""From the settings of an edit to the way in which it is tied to its photo; what a model can't do is told
before anything long begins."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from invrecon.core.editing.branches import Mode
from invrecon.core.editing.flowedit import check_flow
from invrecon.core.editing.injection import injection
from invrecon.core.editing.masactrl import masactrl
from invrecon.core.editing.p2p import p2p, token_weights
from invrecon.core.editing.sdedit import sdedit
from invrecon.core.editing.swap import swap
from invrecon.core.editing.words import align
from invrecon.core.schedule import Schedule
from invrecon.errors import ModelError, UsageError
from invrecon.models.attention import check_steerable
from invrecon.models.probing.conventions import conventions
from invrecon.models.values import check_injectable
from invrecon.settings import GUIDANCE, EditSettings, Recipe
from invrecon.settings.editing import MODES

if TYPE_CHECKING:
    from invrecon.models import Model


def mode_of(settings: EditSettings, model: Model, recipe: Recipe) -> Mode:
    """The tie between the branches of an edit, in every mode but `flowedit`, which has none.

    Args:
        recipe: the photo's.
    """
    if settings.mode == "swap":
        return swap()
    if settings.mode == "sdedit":
        return sdedit(settings.strength)
    if settings.mode == "masactrl":
        return masactrl(settings.start_step, settings.start_layer)
    if settings.mode == "inject":
        return injection(settings.from_step, settings.to_step, settings.from_layer, settings.to_layer)
    alignment = align(
        model.words(recipe.prompt), model.words(settings.to), replace=settings.words == "replace"
    )
    return p2p(alignment, weigh(settings, model), settings.cross_steps, settings.self_steps)


def with_guidance(settings: EditSettings, model: Model, recipe: Recipe) -> EditSettings:
    """Settings that say the guidance: where they leave it open, that of the photo's recipe, whose prompt then
    gives the photo back; `GUIDANCE` where it has none and the network isn't told its guidance."""
    if settings.guidance_scale is not None:
        return settings
    own = recipe.guidance_scale > model.no_guidance or conventions(model.pipeline).told
    return replace(settings, guidance_scale=recipe.guidance_scale if own else GUIDANCE)


def weigh(settings: EditSettings, model: Model) -> Tensor:
    """The weight of each token of the target's prompt. Raises UsageError where a word to be weighed isn't
    there.
    """
    try:
        return token_weights(model.words(settings.to), settings.weights)
    except KeyError as error:
        raise UsageError(f"can't weigh {error.args[0]!r}: it is not a word of {settings.to!r}") from error


def check_edit(settings: EditSettings, model: Model, sampler: str) -> None:
    """Raises UsageError or ModelError where a model can't do an edit. Args: sampler: of the photo's seed."""
    try:
        model.check_prompts(settings.to, settings.negative_prompt or "")
    except UsageError as error:
        raise UsageError(str(error).replace("the prompt", "the target prompt")) from error
    if settings.guidance_scale is not None:
        model.own_guidance(settings.guidance_scale)
    if settings.mode == "p2p" or settings.weights:
        weigh(settings, model)
    if settings.mode in ("p2p", "masactrl"):
        check_steerable(model.pipeline)
    if settings.mode == "inject":
        check_injectable(model.network)
    if settings.mode == "flowedit":
        check_flowedit(model, sampler)


def modes_of(model: Model, sampler: str) -> list[str]:
    """The modes that a model can do. Args: sampler: of the photo's seed."""
    able = []
    for mode in MODES:
        with suppress(UsageError, ModelError):
            check_edit(EditSettings(to="", mode=mode), model, sampler)
            able.append(mode)
    return able


def check_flowedit(model: Model, sampler: str, schedule: Schedule | None = None) -> None:
    """Raises UsageError where the model isn't one of flow matching, whose velocities FlowEdit compares; or
    its steps, where they are known, aren't those of a flow."""
    predicted = model.form(sampler)
    try:
        if predicted != "flow":
            raise ValueError(f"its network predicts {predicted}")
        if schedule:
            check_flow(schedule)
    except ValueError as error:
        other = "swap" if model.pipeline.components.get("unet") is None else "p2p"
        raise UsageError(
            f"mode flowedit needs a flow model, and {model.name} isn't one ({error}): use --mode {other}"
        ) from error
