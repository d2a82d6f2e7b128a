"""What a seed file's header says."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from invrecon.core.health import Health
from invrecon.core.ilb import Boost
from invrecon.core.lbo import StepRecord
from invrecon.core.schedule import Schedule
from invrecon.jsonable import jsonable
from invrecon.models.mismatch import schedule_header, versions
from invrecon.pipeline.run import Run
from invrecon.pipeline.subject import Subject
from invrecon.seedfile import FORMAT

if TYPE_CHECKING:
    from invrecon.models import Model
    from invrecon.settings import Recipe


def sampling_header(model: Model, recipe: Recipe, schedule: Schedule) -> dict[str, Any]:
    """What is needed for the way down from a seed, wherever the seed came from."""
    scheduler = model.scheduler(recipe.sampler)
    config = jsonable(scheduler.config, infinite=str)  # DPM-Solver's lambda_min_clipped is -inf
    return asdict(recipe) | {
        "format": FORMAT,
        "model": model.name,
        "fingerprint": model.fingerprint,
        "dtype": str(model.dtype).removeprefix("torch."),
        "sampler": model.sampler_name(recipe.sampler),
        "guidance_argument": model.guidance_argument,
        "scheduler": {"class": type(scheduler).__name__, "config": config},
        "timesteps": list(schedule.timesteps),
        "schedule": schedule_header(schedule, model.form(recipe.sampler)),
        "identity": model.identity(recipe.sampler),
        "arguments": model.arguments(recipe),
        "tiling": model.tiled(recipe.width, recipe.height),
        "versions": versions(),
    }


def inversion_header(
    run: Run,
    subject: Subject,
    records: list[StepRecord],
    rescued: Collection[float],
    boost: Boost | None,
    healths: tuple[Health, Health | None],
) -> dict[str, Any]:
    """What is known of an inverted photo's seed: `sampling_header`, and how the seed was found.

    Args:
        rescued: timesteps that were computed again in float32.
        healths: of the seed, and of the seed before boosting.
    """
    settings, photo, canvas = run.settings, subject.photo, subject.canvas
    weights = ("proximal_weight", "perceptual_weight", "decoder_steps", "decoder_dtype")
    steps = [
        asdict(record) | {"outcome": record.outcome.name.lower(), "float32": record.timestep in rescued}
        for record in records
    ]
    boosted = None
    if boost:
        boosted = {name: getattr(settings, name) for name in weights}
        boosted["rounds"] = [asdict(one) for one in boost.rounds]
    return sampling_header(run.model, run.recipe, run.sampler.schedule) | {
        "solver": settings.solver,
        "rtol": settings.rtol,
        "mean_evaluations": jsonable(settings.mean_evaluations),
        "effort": settings.effort,
        "photo": {
            "sha256": photo.sha256,
            "size": list(canvas.photo_size),
            "fit": canvas.fit,
            "box": list(canvas.box),
        },
        "steps": steps,
        "boost": boosted,
        "guidance_curve": run.search and run.search.table(),
        "health": asdict(healths[0]),
        "plain_health": healths[1] and asdict(healths[1]),
    }
