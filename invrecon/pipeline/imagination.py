"""From a few photos or seeds to new pictures of what they show: references' seeds in, new seeds on the Gaussian shell out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL.Image import Image
from torch import Tensor

from invrecon.config import Imagining, Settings
from invrecon.core.health import Health, health
from invrecon.core.refinement import Refinement, refine
from invrecon.core.sampling import generate
from invrecon.core.shell import PATHS, around
from invrecon.errors import InputError, UsageError
from invrecon.image import to_image
from invrecon.pipeline.inversion import OnProgress, invert, sampler, sampling_header, stage
from invrecon.pipeline.reconstruction import check_model
from invrecon.seedfile import Seed, is_seed_file, load_seed

if TYPE_CHECKING:
    from invrecon.models import Model

REFINING_STEPS = 4
"""Steps of the sampler that refinement goes back through: each one costs as much as the others."""


@dataclass(frozen=True)
class Reference:
    """A photo or seed file to start from: its seed as found, of any norm, and its picture as the model sees it.

    Args:
        advice: a sentence where the inversion did not converge.
        evaluations: of the network, 0 for a seed file.
    """

    seed: Seed
    picture: Image
    health: Health
    evaluations: int
    seconds: float
    advice: str | None = None


@dataclass(frozen=True)
class Imagined:
    """A new seed and the picture that the sampler makes of it.

    Args:
        seed: `image_latents` are what the sampler gives.
        weights: of the references in the mean or place that the seed starts from, adding up to 1.
        evaluations: of the network, refinement included.
    """

    seed: Seed
    picture: Image
    weights: list[float]
    health: Health
    refinement: Refinement | None
    evaluations: int
    seconds: float


def find_reference(source: Path | str, model: Model, settings: Settings | None = None, on_progress: OnProgress | None = None) -> Reference:
    """Inverts a photo under the prompt, without guidance and boosting, which drive seeds off the shell; or reads a seed file.

    Raises:
        InputError: the photo or seed file can't be used, or its seed is of another model or size.
        UsageError, ModelError: the settings don't fit the model.
    """
    begun, source, settings = time.monotonic(), Path(source), settings or Settings()
    if is_seed_file(source):
        seed, evaluations, advice = load_seed(source), 0, None
        check_model(seed, source, model)
        side = settings.size // model.downsampling
        if seed.latents.shape[2:] != (side, side):
            height, width = (model.downsampling * length for length in seed.latents.shape[2:])
            raise InputError(f"{source}: is a seed for {width} x {height} pixels, not for --size {settings.size}")
        picture = _decode(model, seed.image_latents)
    else:
        found = invert(source, model, replace(settings, boost=False, guidance_scale=1.0), on_progress)
        seed, evaluations, advice, picture = found.seed, found.evaluations, found.advice, found.subject.original
    return Reference(seed, picture, health(seed.latents), evaluations, time.monotonic() - begun, advice)


def imagine(
    references: Sequence[Path | str | Reference],
    model: Model,
    settings: Settings | None = None,
    imagining: Imagining | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[Imagined]:
    """New pictures around and between photos: seeds of `core.shell.around`, regenerated under the prompt with its guidance.

    References' seeds are projected on the shell first. The first picture starts from their plain mean, the others from random
    convex combinations; a larger count adds pictures and changes none.

    Args:
        references: photos, seed files, or what `find_reference` made of them.
        imagining: how many, how far away, and how much refinement.

    Yields:
        Pictures one by one, the same ones for the same `settings.seed`.

    Raises:
        InputError: a reference can't be used.
        UsageError, ModelError: the settings don't fit the model, or there is no reference.
    """
    settings, imagining = settings or Settings(), imagining or Imagining()
    if not references:
        raise UsageError("imagining needs at least one photo or seed file")
    found = [_found(each, model, settings, on_progress) for each in references]
    seeds = torch.cat([reference.seed.latents for reference in found])
    drawn = around(seeds, imagining.spread, torch.Generator().manual_seed(settings.seed))
    origin = {"spread": imagining.spread, "seed": settings.seed}
    for number, (weights, latents) in enumerate(islice(drawn, imagining.count), 1):
        tell = _numbered(on_progress, f"{number}/{imagining.count}")
        yield _picture(found, weights, latents, origin, model, settings, imagining.refine, tell)


def interpolate(
    a: Path | str | Reference,
    b: Path | str | Reference,
    model: Model,
    settings: Settings | None = None,
    imagining: Imagining | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[Imagined]:
    """Pictures along the path between two photos' seeds, its ends among them, evenly spaced; see `imagine`."""
    settings, imagining = settings or Settings(), imagining or Imagining()
    ends = [_found(each, model, settings, on_progress) for each in (a, b)]
    for frame in range(imagining.frames):
        t = frame / (imagining.frames - 1)
        latents = PATHS[imagining.path_kind](ends[0].seed.latents, ends[1].seed.latents, t)
        tell = _numbered(on_progress, f"{frame + 1}/{imagining.frames}")
        yield _picture(ends, torch.tensor([1 - t, t]), latents, {"path": imagining.path_kind}, model, settings, 0, tell)


def _found(source: Path | str | Reference, model: Model, settings: Settings, on_progress: OnProgress | None) -> Reference:
    return source if isinstance(source, Reference) else find_reference(source, model, settings, on_progress)


def _numbered(on_progress: OnProgress | None, place: str) -> OnProgress | None:
    return (lambda name, done, total: on_progress(f"{place} {name}", done, total)) if on_progress else None


def _picture(
    references: list[Reference],
    weights: Tensor,
    latents: Tensor,
    origin: dict[str, Any],
    model: Model,
    settings: Settings,
    steps: int,
    on_progress: OnProgress | None,
) -> Imagined:
    begun = time.monotonic()
    denoiser, schedule = sampler(model, settings)
    refined = None
    if steps:
        goals = torch.cat([reference.seed.image_latents for reference in references]).to(model.device)
        short, tick = model.schedule(min(REFINING_STEPS, len(schedule))), stage(on_progress, "refining")
        refined = refine(denoiser, short, latents.to(model.device), goals, steps=steps, on_step=tick)
        latents = refined.latents.cpu()
    image_latents = generate(denoiser, schedule, latents.to(model.device), stage(on_progress, "generating")).cpu()
    found = health(latents)
    photos = [(reference.seed.header.get("photo") or {}).get("sha256") for reference in references]
    costs = refined and {"steps": steps, "before": refined.before, "after": refined.after, "evaluations": refined.evaluations}
    imagined = origin | {"photos": photos, "weights": weights.tolist(), "refinement": costs}
    header = sampling_header(model, settings, schedule) | {"imagined": imagined, "health": asdict(found)}
    return Imagined(
        seed=Seed(latents, image_latents, header),
        picture=_decode(model, image_latents),
        weights=weights.tolist(),
        health=found,
        refinement=refined,
        evaluations=len(schedule) + (refined.evaluations if refined else 0),
        seconds=time.monotonic() - begun,
    )


@torch.no_grad()
def _decode(model: Model, image_latents: Tensor) -> Image:
    return to_image(model.decode(image_latents))
