"""From a photo to its seed: encode, invert, and boost where asked to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from invrecon.core import ilb, lbo
from invrecon.core.denoiser import Counted, Denoiser
from invrecon.core.health import Health, health
from invrecon.core.ilb import Inverting
from invrecon.core.loudness import loudness
from invrecon.core.schedule import Schedule
from invrecon.core.transition import transitions
from invrecon.errors import InvreconError
from invrecon.jsonable import jsonable
from invrecon.metrics import dissimilarity
from invrecon.models.precision import rescued_at
from invrecon.pipeline.answering import Answering, only, work_on
from invrecon.pipeline.groundwork import OnProgress, Subject, find_subject, stage
from invrecon.pipeline.guidance import GuidanceSearch, search_guidance
from invrecon.seedfile import FORMAT, Seed
from invrecon.settings import Settings
from invrecon.solve import Talk

if TYPE_CHECKING:
    from invrecon.models import Model


@dataclass(frozen=True)
class Inversion:
    """A photo's seed and what it took to find it.

    Args:
        boosted: the work of boosting; None without.
        guidance: the search for the guidance scale; None where the settings gave it.
        steps, converged_steps: of the inversion that led to the seed, solved to `rtol` or to the network's own rounding;
            `evaluations` of the network are those of all rounds, and of the search.
        health: of the seed; `plain_health` is that before boosting.
        seconds: it took; in a batch, the photo's share.
        advice: a sentence where steps did not converge.
    """

    seed: Seed
    subject: Subject
    boosted: ilb.Boost | None
    guidance: GuidanceSearch | None
    steps: int
    converged_steps: int
    evaluations: int
    evaluations_per_step: float
    health: Health
    plain_health: Health
    seconds: float
    advice: str | None


def invert(
    photo: Path | str,
    model: Model,
    settings: Settings | None = None,
    on_progress: OnProgress | None = None,
    *,
    method: Literal["lbo", "ddim"] = "lbo",
) -> Inversion:
    """Finds the seed noise of a photo by Latent Bias Optimization; with `settings.boost`, inside Image Latent Boosting.

    With `method` "ddim", plain DDIM inversion takes the place of Latent Bias Optimization, for comparisons; it keeps no records.

    Raises:
        InputError: the photo can't be used.
        UsageError, ModelError: the settings don't fit the model.
    """
    return only(invert_batch([photo], model, settings, on_progress, method=method))


def invert_batch(
    photos: Sequence[Path | str],
    model: Model,
    settings: Settings | None = None,
    on_progress: OnProgress | None = None,
    *,
    method: Literal["lbo", "ddim"] = "lbo",
) -> list[Inversion | InvreconError]:
    """`invert` for several photos at once: each call of the network carries all that are still at work on a step.

    Returns:
        One for each photo, in order, as if it were inverted alone; in place of one that can't be used stands its error, and the others
        are done. `seconds` is a photo's share of the whole batch's.

    Raises:
        UsageError, ModelError: the settings don't fit the model.
    """
    return work_on(photos, inverting, model, settings or Settings(), on_progress, method == "ddim")


def inverting(
    photo: Path, model: Model, answering: Answering, on_progress: OnProgress | None
) -> Talk[Inversion]:
    """The work on one photo. Raises InputError where it can't be used."""
    subject = find_subject(photo, model, answering.settings)
    search = (
        search_guidance(subject, model, answering.settings, on_progress)
        if answering.settings.auto_guidance
        else None
    )
    if search:
        answering.settle(search.denoiser, search.guidance_scale)
    settings, schedule, known = answering.settings, answering.schedule, search.inversion if search else None
    unguided = Counted(model.with_sampler(settings.sampler).denoiser(settings.prompt))
    boosted = (
        (yield from _boosting(subject, model, settings, unguided, schedule, known, on_progress))
        if settings.boost
        else None
    )
    found = boosted.inversion if boosted else known or (yield Inverting(subject.encoded))
    inverted = sum(r.evaluations for r in (boosted.rounds if boosted else found.records))
    if answering.by_ddim:
        inverted = len(schedule) * (len(boosted.rounds) if boosted else 1)
    evaluations = inverted + unguided.evaluations
    if search:
        evaluations += search.evaluations - sum(record.evaluations for record in search.inversion.records)
    healths = [health(each.latents) for each in (found, boosted.plain if boosted else found)]
    rescued = sorted(rescued_at(answering.denoiser), reverse=True)
    header = _header(
        model.with_sampler(settings.sampler),
        settings,
        schedule,
        subject,
        found,
        boosted,
        search,
        healths,
        rescued,
    )
    header |= {"inversion": "ddim" if answering.by_ddim else "lbo"}
    return Inversion(
        seed=Seed(found.latents.cpu(), (boosted.image_latents if boosted else subject.encoded).cpu(), header),
        subject=subject,
        boosted=boosted,
        guidance=search,
        steps=len(schedule),
        converged_steps=sum(record.outcome.solved for record in found.records),
        evaluations=evaluations,
        evaluations_per_step=evaluations / len(schedule),
        health=healths[0],
        plain_health=healths[1],
        seconds=answering.seconds(),
        advice=_advice(found.records, rescued, settings.dtype, search),
    )


def _boosting(
    subject: Subject,
    model: Model,
    settings: Settings,
    unguided: Denoiser,
    schedule: Schedule,
    known: lbo.Inversion | None,
    on_progress: OnProgress | None,
) -> Talk[ilb.Boost]:
    low = transitions(unguided, schedule)[-2:][0]  # where a picture has little noise, but some
    sampled = model.with_sampler(settings.sampler)
    rough = sampled.schedule(10, settings.size)
    by_health = isinstance(settings.proximal_weight, str)

    def noise(latents: Tensor) -> Tensor:
        """In flow matching the network predicts v = eps - z_0, and eps = z + (1 - sigma) v."""
        predicted = low.denoiser(latents, low.timestep)
        if sampled.prediction != "flow":
            return predicted
        return latents + (1 - low.timestep / sampled.scheduler.config.num_train_timesteps) * predicted

    def by_a_quick_look(latents: Tensor) -> tuple[float, Tensor]:
        """Its norm is less than the seed's: 0.95 where that is about 1.2."""
        norm, slope = loudness(unguided, rough, latents)
        return norm / 0.95, slope / 0.95

    def loss(pixels: Tensor, photo: Tensor) -> Tensor:
        error = ilb.squared_error(pixels, photo)
        return (
            error + settings.perceptual_weight * dissimilarity(pixels, photo)
            if settings.perceptual_weight
            else error
        )

    return ilb.boosting(
        model.decode,
        subject.encoded,
        subject.pixels,
        partial(subject.score, model),
        proximal_weight=ilb.WEIGHT if by_health else float(settings.proximal_weight),
        loudness=by_a_quick_look if by_health else None,
        noise=noise,
        known=known,
        loss=loss,
        budget=ilb.Budget(
            settings.boost_rounds, settings.decoder_steps, settings.target_psnr, settings.max_seconds
        ),
        on_step=stage(on_progress, "boosting"),
    )


def _header(
    model: Model,
    settings: Settings,
    schedule: Schedule,
    subject: Subject,
    found: lbo.Inversion,
    boosted: ilb.Boost | None,
    search: GuidanceSearch | None,
    healths: list[Health],
    rescued: list[float],
) -> dict[str, Any]:
    photo, canvas = subject.photo, subject.canvas
    weights = ("proximal_weight", "perceptual_weight", "decoder_steps")
    return sampling_header(model, settings, schedule) | {
        "solver": settings.solver,
        "rtol": settings.rtol,
        "photo": {
            "sha256": photo.sha256,
            "size": list(canvas.photo_size),
            "fit": canvas.fit,
            "box": list(canvas.box),
        },
        "steps": [
            asdict(record) | {"outcome": record.outcome.name.lower(), "float32": record.timestep in rescued}
            for record in found.records
        ],
        "boost": boosted
        and {name: getattr(settings, name) for name in weights}
        | {"rounds": [asdict(done) for done in boosted.rounds]},
        "guidance_curve": search and search.table(),
        "health": asdict(healths[0]),
        "plain_health": asdict(healths[1]),
    }


def sampling_header(model: Model, settings: Settings, schedule: Schedule) -> dict[str, Any]:
    """What a seed file's header says about the way down from a seed, wherever the seed came from."""
    names = ("prompt", "negative_prompt", "num_inference_steps", "guidance_scale", "dtype", "size")
    config = jsonable(model.scheduler.config, infinite=str)  # DPM-Solver's lambda_min_clipped is -inf
    return {name: getattr(settings, name) for name in names} | {
        "format": FORMAT,
        "model": model.name,
        "fingerprint": model.fingerprint,
        "sampler": model.sampler,
        "scheduler": {"class": type(model.scheduler).__name__, "config": config},
        "timesteps": list(schedule.timesteps),
        "versions": {name: version(name) for name in ("invrecon", "torch", "diffusers")},
    }


def _advice(
    records: list[lbo.StepRecord], rescued: list[float], dtype: str, search: GuidanceSearch | None
) -> str | None:
    """What a person should know: where the search found no border, steps that did not converge, and those taken in float32."""
    said = [search.verdict] if search and not search.bracketed else []
    if failed := [record for record in records if not record.outcome.solved]:
        worst = max(failed, key=lambda record: record.residual)
        said.append(
            f"{len(failed)} of {len(records)} steps did not converge (worst residual {worst.residual:.1e}): {worst.outcome.value}"
        )
    if rescued:
        said.append(
            f"{len(rescued)} of {len(records)} steps were not finite in {dtype} and were taken in float32; so must the way down be"
        )
    return "; ".join(said) or None
