"""Photos side by side: what they ask of the sampler is found for all of them at once.

The work on one photo is a talk (see `invrecon.solve.talk`) that asks for three things: the inversion of image latents, what a seed
gives back, and, to compare with, plain DDIM inversion. All else, such as decoding, boosting and judging, is done photo by photo.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from invrecon.core import lbo
from invrecon.core.denoiser import Guided
from invrecon.core.guidance import invert_guided
from invrecon.core.ilb import Inverting, Regenerating
from invrecon.core.sampling import ddim_inversion, generate
from invrecon.core.schedule import Schedule
from invrecon.errors import InvreconError, ModelError, UsageError
from invrecon.pipeline.groundwork import OnProgress, sampler, stage
from invrecon.settings import Settings
from invrecon.solve import Talk, converse

if TYPE_CHECKING:
    from invrecon.models import Model

T = TypeVar("T")

Work = Callable[["Answering", OnProgress | None], Talk[T]]
"""What is to be done with one photo."""


@dataclass(frozen=True, eq=False)
class Retracing:
    """Asks for the noise that plain DDIM inversion leads to from image latents (1, C, h, w)."""

    image_latents: Tensor


class Answering:
    """Answers the photos of one batch, which share a denoiser and a schedule.

    Args:
        photos: how many there are.
        by_ddim: whether `Inverting` is answered by plain DDIM inversion, without records.
    """

    def __init__(
        self,
        denoiser: Guided,
        schedule: Schedule,
        settings: Settings,
        on_progress: OnProgress | None = None,
        photos: int = 1,
        by_ddim: bool = False,
    ) -> None:
        self.denoiser, self.schedule, self.settings = denoiser, schedule, settings
        self.on_progress, self.photos, self.by_ddim = on_progress, photos, by_ddim
        self.begun = time.monotonic()

    def settle(self, denoiser: Guided, guidance_scale: float) -> None:
        """Goes on with the guidance that was found for the one photo there is, and with the denoiser that knows where it was rescued."""
        self.denoiser = denoiser
        self.settings = replace(self.settings, guidance_scale=guidance_scale, auto_guidance=False)

    def seconds(self) -> float:
        """A photo's share of the time since the batch was begun."""
        return (time.monotonic() - self.begun) / self.photos

    def __call__(self, asked: Mapping[int, Any]) -> dict[int, Any]:
        """Answers all questions of one kind: the one that a photo asks first, so that those ahead wait for those behind."""
        kinds: dict[type, Callable[[Any], Sequence[Any]]] = {
            Inverting: self._invert,
            Regenerating: self._regenerate,
            Retracing: self._retrace,
        }
        kind = next(kind for kind in kinds if any(isinstance(question, kind) for question in asked.values()))
        those = {number: question for number, question in asked.items() if isinstance(question, kind)}
        return dict(zip(those, kinds[kind](list(those.values())), strict=True))

    def _invert(self, questions: list[Inverting]) -> list[lbo.Inversion]:
        image_latents, warm = (
            torch.cat([each.image_latents for each in questions]),
            [each.warm for each in questions],
        )
        tick, done = stage(self.on_progress, "inverting again" if any(warm) else "inverting"), count(1)
        total = len(questions) * len(self.schedule)
        if self.by_ddim:
            found = ddim_inversion(self.denoiser, self.schedule, image_latents, tick)
            return [lbo.Inversion(latents, [], []) for latents in found.split(1)]
        return invert_guided(
            self.denoiser,
            self.schedule,
            image_latents,
            warm=warm,
            solver=self.settings.solver,
            rtol=self.settings.rtol,
            max_evaluations=self.settings.max_evaluations,
            mean_evaluations=self.settings.mean_evaluations,
            on_step=(lambda _: tick(min(next(done), total), total)) if tick else None,
        )

    def _regenerate(self, questions: list[Regenerating]) -> Sequence[Tensor]:
        latents = torch.cat([each.latents for each in questions])
        return generate(self.denoiser, self.schedule, latents, stage(self.on_progress, "regenerating")).split(
            1
        )

    def _retrace(self, questions: list[Retracing]) -> Sequence[Tensor]:
        latents = torch.cat([each.image_latents for each in questions])
        return ddim_inversion(
            self.denoiser, self.schedule, latents, stage(self.on_progress, "comparing: DDIM inversion")
        ).split(1)


def work_on(
    photos: Sequence[Path | str],
    work: Callable[..., Talk[T]],
    model: Model,
    settings: Settings,
    tell: OnProgress | None,
    by_ddim: bool = False,
) -> list[T | InvreconError]:
    """`work(photo, model, answering, on_progress)` on photos side by side, or one by one where each is to find a guidance of its own.

    Returns:
        A result for each photo, in order, its `seconds` the photo's share; or an error for one that failed.

    Raises:
        UsageError, ModelError: no photo can be done.
    """
    done: list[Any] = []
    for group in [[photo] for photo in photos] if settings.auto_guidance else [photos]:
        answering = Answering(*sampler(model, settings), settings, tell, len(group), by_ddim)
        found: list[Any] = together([partial(work, Path(photo), model) for photo in group], answering)
        seconds = answering.seconds()
        done += [one if isinstance(one, InvreconError) else replace(one, seconds=seconds) for one in found]
    return done


def together(works: Sequence[Work[T]], answering: Answering) -> list[T | InvreconError]:
    """Runs the work on several photos side by side. One that fails is set aside, its error in place of its result.

    Raises:
        UsageError, ModelError: no photo can be done.
    """
    tell, total = answering.on_progress, len(works)
    places = [numbered(tell, f"{number}/{total}") if total > 1 else tell for number in range(1, total + 1)]
    return converse(
        [_caught(work(answering, place)) for work, place in zip(works, places, strict=True)], answering
    )


def only(results: Sequence[T | InvreconError]) -> T:
    """The result of a batch of one, or its error, raised."""
    [result] = results
    if isinstance(result, InvreconError):
        raise result
    return result


def _caught(talk: Talk[T]) -> Talk[T | InvreconError]:
    try:
        return (yield from talk)
    except (UsageError, ModelError):
        raise
    except InvreconError as error:
        return error


def numbered(on_progress: OnProgress | None, place: str) -> OnProgress | None:
    """Names a place before every stage."""
    return (lambda name, done, total: on_progress(f"{place} {name}", done, total)) if on_progress else None
