"""Many photos through one model: the order of work that every command on photos shares."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from invrecon.core.sampler import OnProgress, Sampler
from invrecon.errors import InputError, InvreconError, ModelError, UsageError
from invrecon.pipeline.guidance import GuidanceSearch, search_guidance
from invrecon.pipeline.subject import Subject, find_subject
from invrecon.settings import Settings, each

if TYPE_CHECKING:
    from invrecon.models import Model
    from invrecon.settings import Recipe

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """What photos share that are worked on together: all are seen by the model at one size.

    Args:
        settings: with the guidance scale that is used, found or given.
        recipe: the settings' for that size.
        sampler: for `recipe`.
        search: the search for the guidance scale; None where it was given.
        photos: how many there are.
        begun: when the work was begun, by time.monotonic().
    """

    model: Model
    settings: Settings
    recipe: Recipe
    sampler: Sampler
    search: GuidanceSearch | None
    photos: int
    begun: float

    @property
    def on_progress(self) -> OnProgress | None:
        return self.sampler.on_progress

    def seconds(self) -> float:
        """A photo's share of the time since the work was begun."""
        return (time.monotonic() - self.begun) / self.photos


Work = Callable[[Run, Sequence[Subject]], Sequence[T]]
"""What is done with the photos of a batch; a result for each."""


def run_photos(
    photos: Sequence[Path | str],
    work: Work[T],
    model: Model,
    settings: Settings | Sequence[Settings],
    on_progress: OnProgress | None = None,
) -> list[T | InvreconError]:
    """Does `work` on all photos side by side: on those of one size, prompt and other settings at once, or one
    by one where each is to find a guidance scale of its own.

    Args:
        settings: for all, or one for each. Where each has its own, a prompt that can't be used is its photo's
            error.

    Returns:
        A result for each photo, in order, its `seconds` the photo's share; or an error for one that can't be
        used.

    Raises:
        UsageError, ModelError: no photo can be done.
    """
    own = each(settings, photos)
    if isinstance(settings, Settings):
        model.check(settings)
    results: dict[int, T | InvreconError] = {}
    subjects: dict[int, Subject] = {}
    for number, photo in enumerate(photos):
        try:
            if not isinstance(settings, Settings):
                _check_own(model, own[number])
            subjects[number] = find_subject(Path(photo), model, own[number])
        except (UsageError, ModelError):
            raise
        except InvreconError as error:
            results[number] = error
    for numbers in _groups(subjects, own):
        together = [subjects[number] for number in numbers]
        run = _begin(together, model, own[numbers[0]], on_progress)
        done, seconds = work(run, together), run.seconds()
        for number, one in zip(numbers, done, strict=True):
            results[number] = replace(one, seconds=seconds)  # type: ignore[type-var]
    return [results[number] for number in range(len(photos))]


def settled(model: Model, settings: Settings | Sequence[Settings] | None) -> Settings | Sequence[Settings]:
    """`Model.settled` for settings that are one for all photos, or one for each."""
    if settings is None or isinstance(settings, Settings):
        return model.settled(settings or Settings())
    return [model.settled(one) for one in settings]


def _check_own(model: Model, settings: Settings) -> None:
    """Raises InputError where the model doesn't take a photo's own prompt."""
    try:
        model.check(settings)
    except UsageError as error:
        raise InputError(str(error)) from error


def _groups(subjects: Mapping[int, Subject], settings: Sequence[Settings]) -> list[list[int]]:
    """The numbers of photos that are worked on together."""
    groups: dict[Any, list[int]] = {}
    for number, subject in subjects.items():
        alone = number if settings[number].auto_guidance else None
        groups.setdefault((alone, subject.canvas.size, settings[number]), []).append(number)
    return list(groups.values())


def _begin(
    subjects: Sequence[Subject], model: Model, settings: Settings, on_progress: OnProgress | None
) -> Run:
    """The run of photos of one size; with automatic guidance, of one photo."""
    begun, search = time.monotonic(), None
    if settings.auto_guidance:
        search = search_guidance(subjects[0], model, settings, on_progress)
        settings = replace(settings, guidance_scale=search.guidance_scale, auto_guidance=False)
    recipe = settings.recipe(*subjects[0].canvas.size)
    sampler = search.sampler if search else model.sampler(recipe, settings.inversion_effort, on_progress)
    return Run(model, settings, recipe, sampler, search, len(subjects), begun)


def only(results: Sequence[T | InvreconError]) -> T:
    """The result of a batch of one, or its error, raised."""
    [result] = results
    if isinstance(result, InvreconError):
        raise result
    return result
