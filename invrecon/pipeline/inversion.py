"""From photos to their seeds: invert, and boost where asked to."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from invrecon.core import ilb
from invrecon.core.health import Health, health
from invrecon.core.ilb import Boost
from invrecon.core.lbo import Inversion
from invrecon.core.sampler import DDIMInverter, OnProgress
from invrecon.errors import InvreconError
from invrecon.models.precision import rescued_at
from invrecon.pipeline.batching import decoder_batch
from invrecon.pipeline.boosting import boost_budget, boosting_objective
from invrecon.pipeline.guidance import GuidanceSearch
from invrecon.pipeline.header import inversion_header
from invrecon.pipeline.run import Run, only, run_photos, settled
from invrecon.pipeline.seeds import TILES
from invrecon.pipeline.subject import Subject, check_network
from invrecon.seedfile import Seed
from invrecon.settings import Settings
from invrecon.solve import Outcome

if TYPE_CHECKING:
    from invrecon.models import Model

InversionMethod = Literal["lbo", "ddim"]


@dataclass(frozen=True)
class PhotoInversion:
    """A photo's seed and what it took to find it.

    Args:
        boosted: the work of boosting; None without.
        guidance: the search for the guidance scale; None where the settings gave it.
        effort: the settings' grade.
        steps, converged_steps: of the inversion that led to the seed, solved to `rtol` or to the network's
            own rounding.
        evaluations: of the network, by all rounds of boosting and the search.
        health: of the seed; `plain_health` is that before boosting, None where it wasn't inverted.
        seconds: it took; in a batch, the photo's share.
        advice: what a person should know of the photo, of tiles and of steps that did not converge.
    """

    seed: Seed
    subject: Subject
    boosted: Boost | None
    guidance: GuidanceSearch | None
    effort: str
    steps: int
    converged_steps: int
    evaluations: int
    evaluations_per_step: float
    health: Health
    plain_health: Health | None
    seconds: float
    advice: str | None


def invert(
    photo: Path | str,
    model: Model,
    settings: Settings | None = None,
    on_progress: OnProgress | None = None,
    *,
    method: InversionMethod = "lbo",
) -> PhotoInversion:
    """Finds the seed noise of a photo by Latent Bias Optimization; with `settings.boost`, inside Image Latent
    Boosting.

    Args:
        photo: an image file, of any size.
        model: from `load_model`.
        settings: the defaults where it is None.
        on_progress: called after every step with (stage, steps done, steps in all).
        method: "ddim" puts plain DDIM inversion in the place of Latent Bias Optimization, for comparisons; it
            keeps no records.

    Returns:
        The seed noise, (1, C, h, w) float32, and what it took to find it.

    Raises:
        InputError: the photo can't be used.
        UsageError, ModelError: the settings don't fit the model.
    """
    return only(invert_batch([photo], model, settings, on_progress, method=method))


def invert_batch(
    photos: Sequence[Path | str],
    model: Model,
    settings: Settings | Sequence[Settings] | None = None,
    on_progress: OnProgress | None = None,
    *,
    method: InversionMethod = "lbo",
) -> list[PhotoInversion | InvreconError]:
    """`invert` for several photos at once: each call of the network carries all that are still unsolved at a
    step.

    Args:
        photos: image files, of any size; those of one shape go together.
        settings: for all, or one for each, whose prompts may differ; the defaults where it is None.
        model, on_progress, method: as for `invert`.

    Returns:
        One for each photo, in order, as if it were inverted alone. In place of one that can't be used stands
        its error, and the others are done. `seconds` is a photo's share of the whole batch's.

    Raises:
        UsageError, ModelError: the settings don't fit the model.
    """
    work = partial(invert_subjects, method=method)
    return run_photos(photos, work, model, settled(model, settings), on_progress)


def invert_subjects(
    run: Run, subjects: Sequence[Subject], method: InversionMethod = "lbo"
) -> list[PhotoInversion]:
    """The inversions of photos that are encoded already."""
    sampler = run.sampler if method == "lbo" else DDIMInverter(**vars(run.sampler))
    known = [run.search.inversion] if run.search and method == "lbo" else []
    if not run.settings.boost:
        inversions = known or sampler.invert(torch.cat([subject.encoded for subject in subjects]))
        pairs = zip(subjects, inversions, strict=True)
        return [_summary(run, subject, method, inversion) for subject, inversion in pairs]
    objectives, counters = zip(*(boosting_objective(run, subject) for subject in subjects), strict=True)

    boosts = ilb.boost(
        sampler,
        objectives,
        boost_budget(run.settings),
        known=known,
        at_once=decoder_batch(run.model, subjects[0].encoded),
        on_step=partial(run.on_progress, "boosting") if run.on_progress else None,
    )
    return [
        _summary(run, subject, method, boost.inversion, boost, counter.evaluations + objective.evaluations)
        for subject, boost, objective, counter in zip(subjects, boosts, objectives, counters, strict=True)
    ]


def _summary(
    run: Run,
    subject: Subject,
    method: InversionMethod,
    inversion: Inversion,
    boost: Boost | None = None,
    evaluations: int = 0,
) -> PhotoInversion:
    """Args: evaluations: of the network, by the objective of boosting."""
    check_network(inversion.latents, run.model, run.recipe)
    check_network(torch.tensor([record.residual for record in inversion.records]), run.model, run.recipe)
    steps, rounds = len(run.sampler.schedule), boost.rounds if boost else []
    if method == "ddim":
        evaluations += steps * (len(rounds) or 1)
    else:
        evaluations += sum(one.evaluations for one in rounds) if boost else inversion.evaluations
    if run.search:
        evaluations += run.search.evaluations
        if method == "lbo":  # its inversion is the search's, which was counted
            evaluations -= run.search.inversion.evaluations
    plain = boost.plain if boost else inversion
    healths = health(inversion.latents), health(plain.latents) if plain else None
    rescued = sorted(rescued_at(run.sampler.denoiser), reverse=True)
    header = inversion_header(run, subject, inversion.records, rescued, boost, healths)
    image_latents = boost.image_latents if boost else subject.encoded
    return PhotoInversion(
        seed=Seed(inversion.latents.cpu(), image_latents.cpu(), header | {"inversion": method}),
        subject=subject,
        boosted=boost,
        guidance=run.search,
        effort=run.settings.effort,
        steps=steps,
        converged_steps=inversion.solved,
        evaluations=evaluations,
        evaluations_per_step=evaluations / steps,
        health=healths[0],
        plain_health=healths[1],
        seconds=run.seconds(),
        advice=_advice(run, subject, inversion, rescued),
    )


def _padding(run: Run, subject: Subject) -> str | None:
    """Says that a photo which was to be seen as a whole is padded."""
    canvas = subject.canvas
    if run.settings.fit != "whole" or canvas.fit != "pad":
        return None
    (width, height), (left, top, right, bottom) = canvas.size, canvas.seen
    return (
        f"no shape that the model takes is near the photo's: it is seen at {right - left} x {bottom - top} "
        f"pixels with a border, in {width} x {height}"
    )


def _in_budget(run: Run) -> bool:
    """Whether steps that run out of evaluations are as asked for: a budget is enough without guidance, by
    measurement.
    """
    return math.isfinite(run.sampler.effort.mean_evaluations) and run.sampler.denoiser.weight == 1


def _advice(run: Run, subject: Subject, inversion: Inversion, rescued: Collection[float]) -> str | None:
    """What a person should know: of tiles, where the search found no border, of steps that did not converge,
    and of steps taken in float32.
    """
    search, records, dtype = run.search, inversion.records, str(run.model.dtype).removeprefix("torch.")
    tiles = run.model.tiled(*subject.canvas.size)
    replaced = run.model.replacement(run.settings.sampler)
    notes = (subject.photo.note, _padding(run, subject), TILES if tiles else None, replaced)
    advice = [note for note in notes if note]
    if search and not search.bracketed:
        advice.append(search.verdict)
    expected = (Outcome.MAX_ITERATIONS,) if _in_budget(run) else ()
    if failed := [one for one in records if not (one.outcome.solved or one.outcome in expected)]:
        worst = max(failed, key=lambda record: record.residual)
        advice.append(
            f"{len(failed)} of {len(records)} steps did not converge "
            f"(worst residual {worst.residual:.1e}): {worst.outcome.value}"
        )
    if rescued:
        advice.append(
            f"{len(rescued)} of {len(records)} steps were not finite in {dtype} and were taken in float32; "
            "so must the way down be"
        )
    return "; ".join(advice) or None
