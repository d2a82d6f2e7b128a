"""From a few photos or seeds to new pictures of what they show: references' seeds in, new seeds on the
Gaussian shell out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL.Image import Image
from torch import Tensor

from invrecon.core.health import Health, health
from invrecon.core.refinement import Refinement, distance, refine
from invrecon.core.sampler import OnProgress
from invrecon.core.shell import PATHS, around
from invrecon.errors import UsageError
from invrecon.pipeline.header import sampling_header
from invrecon.pipeline.progress import numbered
from invrecon.pipeline.references import Reference, find_references
from invrecon.pipeline.subject import decode
from invrecon.seedfile import Seed
from invrecon.settings import Imagining, Settings

if TYPE_CHECKING:
    from invrecon.models import Model

REFINING_STEPS = 10
"""Steps of the sampler that refinement goes back through. On `mini`, what 4 of them gain is lost again under
the final 20.
"""


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


def imagine(
    references: Sequence[Path | str | Reference],
    model: Model,
    settings: Settings | None = None,
    imagining: Imagining | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[Imagined]:
    """New pictures around and between photos: seeds of `core.shell.around`, regenerated under the prompt with
    its guidance.

    References' seeds are projected on the shell first. The first picture starts from their plain mean, the
    others from random convex combinations; a larger count adds pictures and changes none.

    Args:
        references: photos, seed files, or what `find_reference` made of them.
        model: from `load_model`.
        settings: of inversions and of the new pictures; the defaults where it is None.
        imagining: how many, how far away, and how much refinement.
        on_progress: called after every step with (stage, steps done, steps in all).

    Yields:
        Pictures one by one, the same ones for the same `settings.seed`.

    Raises:
        InputError: a reference can't be used.
        UsageError, ModelError: the settings don't fit the model, or there is no reference.
    """
    settings, imagining = model.settled(settings or Settings()), imagining or Imagining()
    if not references:
        raise UsageError("imagining needs at least one photo or seed file")
    scene = _Scene(find_references(references, model, settings, on_progress), model, settings)
    seeds = torch.cat([reference.seed.latents for reference in scene.references])
    drawn = around(seeds, imagining.spread, torch.Generator().manual_seed(settings.seed))
    origin = {"spread": imagining.spread, "seed": settings.seed}
    for number, (weights, latents) in enumerate(islice(drawn, imagining.count), 1):
        yield scene.picture(
            weights, latents, origin, imagining.refine, numbered(on_progress, f"{number}/{imagining.count}")
        )


def interpolate(
    a: Path | str | Reference,
    b: Path | str | Reference,
    model: Model,
    settings: Settings | None = None,
    imagining: Imagining | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[Imagined]:
    """Pictures along the path between two photos' seeds, its ends among them, evenly spaced.

    Args:
        a, b: photos, seed files, or what `find_reference` made of them.
        model, settings, on_progress: as for `imagine`.
        imagining: how many pictures, and by which path.

    Yields:
        Pictures one by one, from a to b.

    Raises:
        InputError: a reference can't be used.
        UsageError, ModelError: the settings don't fit the model.
    """
    settings, imagining = model.settled(settings or Settings()), imagining or Imagining()
    scene = _Scene(find_references((a, b), model, settings, on_progress), model, settings)
    first, last = (reference.seed.latents for reference in scene.references)
    for frame in range(imagining.frames):
        t = frame / (imagining.frames - 1)
        latents = PATHS[imagining.path_kind](first, last, t)
        progress = numbered(on_progress, f"{frame + 1}/{imagining.frames}")
        yield scene.picture(torch.tensor([1 - t, t]), latents, {"path": imagining.path_kind}, 0, progress)


class _Scene:
    """References, and the sampler that makes pictures of seeds near theirs."""

    def __init__(self, references: list[Reference], model: Model, settings: Settings) -> None:
        self.references, self.model, self.settings = references, model, settings
        shape = references[0].recipe
        self.recipe = settings.recipe(shape.width, shape.height)
        self.sampler = model.sampler(self.recipe)
        self.short = model.schedule(
            replace(self.recipe, num_inference_steps=min(REFINING_STEPS, settings.num_inference_steps))
        ).one_step()

    def picture(
        self,
        weights: Tensor,
        latents: Tensor,
        origin: dict[str, Any],
        steps: int,
        on_progress: OnProgress | None,
    ) -> Imagined:
        """The picture of a seed, (1, C, h, w), moved by `steps` gradients first.

        Args:
            weights: of the references in the place that the seed starts from.
            origin: how the seed was drawn, for the header.
        """
        begun = time.monotonic()
        image_latents, refinement = self.sample(latents, on_progress), None
        if steps:
            image_latents, refinement = self.refine(latents, image_latents, steps, on_progress)
            latents = refinement.latents
        noise_health = health(latents)
        header = self.header(weights, origin, refinement) | {"health": asdict(noise_health)}
        return Imagined(
            seed=Seed(latents, image_latents, header),
            picture=decode(self.model, image_latents, self.recipe),
            weights=weights.tolist(),
            health=noise_health,
            refinement=refinement,
            evaluations=len(self.sampler.schedule) + (refinement.evaluations if refinement else 0),
            seconds=time.monotonic() - begun,
        )

    def sample(self, latents: Tensor, on_progress: OnProgress | None) -> Tensor:
        sampler = replace(self.sampler, on_progress=on_progress)
        return sampler.generate(latents.to(self.model.device), "generating").cpu()

    def refine(
        self, latents: Tensor, image_latents: Tensor, steps: int, on_progress: OnProgress | None
    ) -> tuple[Tensor, Refinement]:
        """The better of two seeds under the whole sampler, the given one and that refined under a shorter
        one, as its image latents and the refinement.
        """
        goals = torch.cat([reference.seed.image_latents for reference in self.references])
        device = self.model.device
        moved = refine(
            self.sampler.denoiser,
            self.short,
            latents.to(device),
            goals.to(device),
            steps=steps,
            on_step=partial(on_progress, "refining") if on_progress else None,
        )
        pairs = [(image_latents, latents), (self.sample(moved.latents, on_progress), moved.latents.cpu())]
        before, after = (distance(result, goals).item() for result, _ in pairs)
        result, seed = pairs[after < before]
        evaluations = moved.evaluations + len(self.sampler.schedule)
        return result, Refinement(seed, before, min(before, after), evaluations)

    def header(self, weights: Tensor, origin: dict[str, Any], refined: Refinement | None) -> dict[str, Any]:
        photos = [(reference.seed.header.get("photo") or {}).get("sha256") for reference in self.references]
        costs = refined and {name: getattr(refined, name) for name in ("before", "after", "evaluations")}
        imagined = origin | {"photos": photos, "weights": weights.tolist(), "refinement": costs}
        return sampling_header(self.model, self.recipe, self.sampler.schedule) | {"imagined": imagined}
