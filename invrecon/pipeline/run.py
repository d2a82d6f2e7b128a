"""Many photos through one model: the order of work that every command on photos shares."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from invrecon.core.sampler import OnProgress, Sampler
from invrecon.errors import InvreconError, ModelError, UsageError
from invrecon.pipeline.guidance import GuidanceSearch, search_guidance
from invrecon.pipeline.subject import Subject, find_subject

if TYPE_CHECKING:
    from invrecon.models import Model
    from invrecon.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """What the photos of a batch share.

    Args:
        settings: with the guidance scale that is used, found or given.
        sampler: for `settings.recipe`.
        search: the search for the guidance scale; None where it was given.
        photos: of the batch.
        begun: when the batch was begun, by time.monotonic().
    """

    model: Model
    settings: Settings
    sampler: Sampler
    search: GuidanceSearch | None
    photos: int
    begun: float

    @property
    def on_progress(self) -> OnProgress | None:
        return self.sampler.on_progress

    def seconds(self) -> float:
        """A photo's share of the time since the batch was begun."""
        return (time.monotonic() - self.begun) / self.photos


Work = Callable[[Run, Sequence[Subject]], Sequence[T]]
"""What is done with the photos of a batch; a result for each."""


def run_photos(
    photos: Sequence[Path | str],
    work: Work[T],
    model: Model,
    settings: Settings,
    on_progress: OnProgress | None = None,
) -> list[T | InvreconError]:
    """Does `work` on all photos together; one by one where each finds a guidance scale of its own.

    Returns:
        For each photo, in order, its result, with the photo's share of `seconds`, or the error that it met.

    Raises:
        UsageError, ModelError: no photo can be done.
    """
    sampler = model.sampler(settings.recipe, settings.effort, on_progress)
    if not settings.auto_guidance:
        return _run_batch(photos, work, model, settings, sampler)
    return [one for photo in photos for one in _run_batch([photo], work, model, settings, sampler)]


def _run_batch(
    photos: Sequence[Path | str], work: Work[T], model: Model, settings: Settings, sampler: Sampler
) -> list[T | InvreconError]:
    begun = time.monotonic()
    results: dict[int, Any] = {}
    subjects: dict[int, Subject] = {}
    for number, photo in enumerate(photos):
        try:
            subjects[number] = find_subject(Path(photo), model, settings)
        except (UsageError, ModelError):
            raise
        except InvreconError as error:
            results[number] = error
    if subjects:
        run = Run(model, settings, sampler, None, len(photos), begun)
        if settings.auto_guidance:
            run = _with_guidance(run, subjects[0])
        done = work(run, list(subjects.values()))
        seconds = run.seconds()
        for number, one in zip(subjects, done, strict=True):
            results[number] = replace(one, seconds=seconds)  # type: ignore[type-var]
    return [results[number] for number in range(len(photos))]


def _with_guidance(run: Run, subject: Subject) -> Run:
    """The same run under the guidance scale that suits its one photo."""
    search = search_guidance(subject, run.model, run.settings, run.on_progress)
    settings = replace(run.settings, guidance_scale=search.guidance_scale, auto_guidance=False)
    return replace(run, settings=settings, search=search, sampler=search.sampler)


def only(results: Sequence[T | InvreconError]) -> T:
    """The result of a batch of one, or its error, raised."""
    [result] = results
    if isinstance(result, InvreconError):
        raise result
    return result
