"""Progress bars: one for the work at hand, and one for all inputs of a run."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text


@dataclass
class Overall:
    """How far a run with several inputs is, and how long the rest will take if each takes as long as those
    that are done.

    Args:
        total: inputs in all.
        clock: seconds, from any start.
    """

    total: int
    clock: Callable[[], float] = time.monotonic
    done: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._begun = self._latest = self.clock()

    def advance(self, inputs: int) -> None:
        """Notes that so many more inputs are done."""
        self.done, self._latest = self.done + inputs, self.clock()

    def seconds_left(self) -> float | None:
        """None before any input is done."""
        if not self.done:
            return None
        whole = (self._latest - self._begun) * self.total / self.done
        return max(0.0, whole - (self.clock() - self._begun))


class _Clock(ProgressColumn):
    """The time since a bar was begun; beside an overall bar, the time that is left."""

    def render(self, task: Task) -> Text:
        overall: Overall | None = task.fields["overall"]
        if overall is None:
            return Text(_time(task.elapsed or 0.0))
        left = overall.seconds_left()
        return Text("-:--:-- left" if left is None else f"{_time(left)} left")


def _time(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))


def bars(title: str, overall: Overall | None = None) -> tuple[Progress, Callable[[str, int, int], None]]:
    """Bars on stderr, to be drawn inside a `with` block, and the callback that moves the first of them.

    Args:
        title: of the work at hand.
        overall: for the second bar; None where there is only one.
    """
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _Clock(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,  # stdout is for results
        redirect_stderr=False,
    )
    task = progress.add_task(title, total=None, overall=None)
    if overall:
        progress.add_task("all", total=overall.total, completed=overall.done, overall=overall)

    def on_progress(stage: str, done: int, total: int) -> None:
        progress.update(task, description=f"{title}: {stage}", completed=done, total=total)

    return progress, on_progress
