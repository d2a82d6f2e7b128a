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
    """Does `work` on all photos side by side, or one by one where each is to find a guidance scale of its
    own.

    Returns:
        A result for each photo, in order, its `seconds` the photo's share; or an error for one that can't be
        used.

    Raises:
        UsageError, ModelError: no photo can be done.
    """
    sampler = model.sampler(settings.recipe, settings.effort, on_progress)
    results: list[T | InvreconError] = []
    for batch in [[photo] for photo in photos] if settings.auto_guidance else [photos]:
        run = Run(model, settings, sampler, None, len(batch), time.monotonic())
        loaded = [_load(Path(photo), run) for photo in batch]
        subjects = [one for one in loaded if isinstance(one, Subject)]
        if subjects and settings.auto_guidance:
            run = _with_guidance(run, subjects[0])
        done = iter(work(run, subjects) if subjects else ())
        results += [one if isinstance(one, InvreconError) else _timed(next(done), run) for one in loaded]
    return results


def _load(photo: Path, run: Run) -> Subject | InvreconError:
    try:
        return find_subject(photo, run.model, run.settings)
    except (UsageError, ModelError):
        raise
    except InvreconError as error:
        return error


def _timed(result: Any, run: Run) -> Any:
    return replace(result, seconds=run.seconds())


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
