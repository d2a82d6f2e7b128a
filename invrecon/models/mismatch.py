"""Whether a seed file belongs to a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.metadata import version
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from invrecon.core.schedule import Schedule
from invrecon.models.attachments import options
from invrecon.models.identity import Difference, differences, flat

if TYPE_CHECKING:
    from invrecon.models.model import Model
    from invrecon.settings import Recipe

PACKAGES = ("invrecon", "torch", "diffusers", "transformers")
TOLERANCE = 1e-4  # relative, of a step's coefficients: float32's rounding over a thousand noise levels


class Sown(Protocol):
    """What is needed of a `Seed`."""

    latents: Tensor
    header: dict[str, Any]

    @property
    def recipe(self) -> Recipe: ...


def versions() -> dict[str, str]:
    """Those of the packages that a seed's picture depends on."""
    return {name: version(name) for name in PACKAGES}


def schedule_header(schedule: Schedule, form: str) -> dict[str, Any]:
    """The coefficients of a schedule whose network is taken to predict `form`."""
    lists = {name: list(getattr(schedule, name)) for name in ("A", "B", "scales")}
    memory = schedule.memory and {name: list(getattr(schedule.memory, name)) for name in "CPQ"}
    return {"prediction": form, **lists, "memory": memory}


def mismatch(header: Mapping[str, Any], recipe: Recipe, model: Model) -> str:
    """What differs between a model and what a seed was made with, in one line; "" where nothing does.

    Args:
        header, recipe: of the seed; what an earlier invrecon didn't note isn't compared.
    """
    now = model.identity(header["sampler"]) if "identity" in header else {}
    changed = _changes(header, now, recipe, model)
    then = header.get("identity", {}).get("attachments", {})
    attached = bool(changed) and changed[0].field in flat(then) | flat(now.get("attachments", {}))
    if header["fingerprint"] != model.fingerprint and (model.checkpoint or not attached):
        weights = [one for one in changed if one.field.endswith(" weights")]
        parts = ", ".join(f"{one.field.split()[0]} ({one.then}, now {one.now})" for one in weights)
        return (
            f"made with other weights ({header['model']!r:.80}) than {model.name!r} has"
            f"{parts and f' in {parts}'}; name its model with --model"
        )
    if changed:
        (field, before, after), more = changed[0], len(changed) - 1
        others = f" ({more} more {'differ' if more > 1 else 'differs'})" if more else ""
        cure = "set it back, or name the seed's model with --model"
        if attached and model.checkpoint:
            told = options(then)
            cure = f"give {told}" if told else "leave out --lora and --embedding"
        return f"made with {field} {before}, and the model has {after} now{others}: {cure}"
    return _other_schedule(header, recipe, model)


def _changes(
    header: Mapping[str, Any], identity: Mapping[str, Any], recipe: Recipe, model: Model
) -> list[Difference]:
    packages = ("diffusers", "transformers")
    same = all(header.get("versions", {}).get(name) == versions()[name] for name in packages)
    changes = differences({"arguments": header.get("arguments", {})}, {"arguments": model.arguments(recipe)})
    return changes + differences(header.get("identity", {}), identity, same_versions=same)


def _other_schedule(header: Mapping[str, Any], recipe: Recipe, model: Model) -> str:
    schedule, form = model.schedule(recipe), model.form(recipe.sampler)
    if list(schedule.timesteps) != header["timesteps"]:
        return f"its timesteps are not those that {model.name!r} takes in {recipe.num_inference_steps} steps"
    then = header.get("schedule")
    if then is None or then["prediction"] != form:
        return ""
    tables = [{**table, **(table["memory"] or {})} for table in (then, schedule_header(schedule, form))]
    for name in ("A", "B", "scales", "C", "P", "Q"):
        before, after = (table.get(name, []) for table in tables)
        for step, (old, new) in enumerate(zip_longest(before, after, fillvalue=math.nan)):
            if not math.isclose(old, new, rel_tol=TOLERANCE, abs_tol=1e-6):
                made, here = header.get("versions", {}).get("diffusers"), versions()["diffusers"]
                cure = "the seed file is damaged; get a fresh copy"
                if made != here:
                    cure = f"use diffusers {made!s:.20}, which made it (here is {here})"
                return (
                    f"made with coefficient {name} {old:.6g} at step {step}, and the scheduler has "
                    f"{new:.6g} now: {cure}"
                )
    return ""
