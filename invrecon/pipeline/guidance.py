"""How much guidance a photo stands: the largest scale at which its seed still gives it back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invrecon.core.guidance import largest_guidance
from invrecon.core.health import health
from invrecon.core.lbo import Inversion
from invrecon.core.sampler import OnProgress, Sampler
from invrecon.jsonable import jsonable
from invrecon.metrics import latent_fidelity
from invrecon.pipeline.progress import numbered
from invrecon.pipeline.subject import Subject, find_subject
from invrecon.settings import Settings

if TYPE_CHECKING:
    from invrecon.models import Model


@dataclass(frozen=True)
class Probe:
    """One point of the curve.

    Args:
        psnr: of the regenerated 8-bit picture, dB; NaN where it isn't finite. `latent_fidelity_db` likewise,
            of the latents.
        evaluations_per_step: of the network, by this inversion; all but the first start from that of a
            smaller scale.
        seed_norm: ‖z_T‖ / sqrt(d), 1 for noise: guidance drives seeds off the Gaussian shell long before
            pictures suffer.
        holds: whether the picture is as good as was asked for.
    """

    guidance_scale: float
    psnr: float
    latent_fidelity_db: float
    evaluations_per_step: float
    converged_steps: int
    seed_norm: float
    holds: bool


@dataclass(frozen=True)
class _Attempt:
    probe: Probe
    sampler: Sampler
    inversion: Inversion

    @property
    def holds(self) -> bool:
        return self.probe.holds


@dataclass(frozen=True)
class GuidanceSearch:
    """The largest guidance scale that holds, and all that was measured on the way.

    Args:
        guidance_scale: the largest that holds; 1 where not even that does.
        curve: by guidance scale, smallest first.
        verdict: a sentence for people.
        bracketed: whether a scale that holds and one that does not were both seen.
        evaluations: of the network, by all inversions.
        sampler, inversion: at `guidance_scale`, without boosting.
    """

    guidance_scale: float
    curve: list[Probe]
    verdict: str
    bracketed: bool
    evaluations: int
    sampler: Sampler
    inversion: Inversion

    def table(self) -> list[dict[str, Any]]:
        """The curve as JSON can hold it."""
        return [jsonable(asdict(probe)) for probe in self.curve]


def find_guidance(
    photo: Path | str,
    model: Model,
    settings: Settings | None = None,
    on_progress: OnProgress | None = None,
) -> GuidanceSearch:
    """Finds the largest guidance scale up to `settings.max_guidance` at which the photo, inverted without
    boosting and regenerated, is at most `settings.guidance_loss` dB below what the autoencoder alone leaves
    of it.

    A guidance scale is taken to fail if a smaller one was seen to (see `core.guidance`).

    Args:
        photo: an image file.
        model: from `load_model`.
        settings: with a prompt.
        on_progress: called after every step with (stage, steps done, steps in all).

    Returns:
        The scale, its inversion, and what each scale that was tried left of the photo.

    Raises:
        InputError: the photo can't be used.
        UsageError, ModelError: the settings don't fit the model, or the prompts are alike, so that guidance
            does nothing.
    """
    settings = model.settled(replace(settings or Settings(), auto_guidance=True))
    return search_guidance(find_subject(Path(photo), model, settings), model, settings, on_progress)


def search_guidance(
    subject: Subject, model: Model, settings: Settings, on_progress: OnProgress | None
) -> GuidanceSearch:
    """`find_guidance` for a photo that is encoded already."""
    ceiling = subject.score(model, subject.encoded)

    def attempt(scale: float, smaller: _Attempt | None) -> _Attempt:
        tell = numbered(on_progress, f"guidance {scale:g}:")
        recipe = replace(settings.recipe(*subject.canvas.size), guidance_scale=scale)
        sampler = model.sampler(recipe, settings.inversion_effort, tell)
        return _try(scale, sampler, subject, model, smaller, ceiling - settings.guidance_loss)

    scale, attempts = largest_guidance(attempt, settings.max_guidance, lowest=model.no_guidance)
    best = next(each for each in attempts if each.probe.guidance_scale == scale)
    curve = [each.probe for each in attempts]
    within = f"within {settings.guidance_loss:g} dB of the {ceiling:.2f} dB of the autoencoder alone"
    return GuidanceSearch(
        guidance_scale=scale,
        curve=curve,
        verdict=_verdict(scale, curve, within),
        bracketed=len({probe.holds for probe in curve}) == 2,
        evaluations=sum(each.inversion.evaluations for each in attempts),
        sampler=replace(best.sampler, on_progress=on_progress),
        inversion=best.inversion,
    )


def _try(
    scale: float, sampler: Sampler, subject: Subject, model: Model, smaller: _Attempt | None, least: float
) -> _Attempt:
    """The inversion of E(x) under a guidance scale, from that at a smaller one; it holds from `least` dB
    on.
    """
    [inversion] = sampler.invert(subject.encoded, [smaller.inversion if smaller else None])
    regenerated = sampler.generate(inversion.latents)
    psnr = subject.score(model, regenerated) if regenerated.isfinite().all() else math.nan
    probe = Probe(
        guidance_scale=scale,
        psnr=psnr,
        latent_fidelity_db=latent_fidelity(subject.encoded, regenerated),
        evaluations_per_step=inversion.evaluations / len(sampler.schedule),
        converged_steps=inversion.solved,
        seed_norm=health(inversion.latents).norm,
        holds=psnr >= least,
    )
    return _Attempt(probe, sampler, inversion)


def _verdict(scale: float, curve: Sequence[Probe], within: str) -> str:
    above = next((probe.guidance_scale for probe in curve if probe.guidance_scale > scale), None)
    if not curve[0].holds:
        return (
            f"not even guidance 1 regenerates {within}: take more --steps, or allow a larger --guidance-loss"
        )
    if above is None:
        return (
            f"guidance {scale:g}, the largest allowed, regenerates {within}: "
            "a larger --max-guidance may find more"
        )
    return f"guidance {scale:g} regenerates {within}, {above:g} does not"
