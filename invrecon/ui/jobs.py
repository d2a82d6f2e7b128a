"""The work that pages ask for: one job at a time, in the order of asking. Knows nothing of Gradio."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from inspect import isgenerator
from typing import Any

from invrecon.core.sampler import OnProgress

Work = Callable[[OnProgress], Any]


class JobCancelledError(Exception):
    """A person has cancelled the job."""


class Job:
    """A piece of work, and how far it is.

    Args:
        work: called with a callback for progress; a generator gives results as they come, and the last of
            them is the job's.
        owner: the page that asked for it, and where on the page.

    Attributes:
        results: those of a generator, so far.
        stages: steps done and steps in all of each stage begun, by its name.
        future: its result; raises JobCancelledError or CancelledError where it was cancelled.
    """

    future: "Future[Any]"

    def __init__(self, work: Work, owner: str) -> None:
        self.work, self.owner = work, owner
        self.results: list[Any] = []
        self.stages: dict[str, tuple[int, int]] = {}
        self._cancelled = threading.Event()

    def run(self) -> Any:
        """Does the work."""
        result = self.work(self._on_progress)
        if not isgenerator(result):
            return result
        for one in result:
            self.results.append(one)
        return self.results[-1]

    def cancel(self) -> None:
        """Ends the job: at once where it waits, else after the step that it is in."""
        self._cancelled.set()
        self.future.cancel()

    def _on_progress(self, stage: str, done: int, total: int) -> None:
        if self._cancelled.is_set():
            raise JobCancelledError
        self.stages[stage] = (done, total)


class Jobs:
    """The jobs of all pages."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(max_workers=1)
        self._jobs: list[Job] = []  # that aren't finished; the first one runs
        self._lock = threading.Lock()

    def add(self, work: Work, owner: str) -> Job:
        """A new job behind all others."""
        job = Job(work, owner)
        with self._lock:
            self._jobs.append(job)
            job.future = self._worker.submit(job.run)
        job.future.add_done_callback(lambda _: self._remove(job))
        return job

    def ahead(self, job: Job) -> int:
        """How many jobs are done before this one."""
        with self._lock:
            return self._jobs.index(job) if job in self._jobs else 0

    def cancel(self, owner: str = "") -> None:
        """Cancels the jobs whose owner begins with this one."""
        with self._lock:
            theirs = [job for job in self._jobs if job.owner.startswith(owner)]
        for job in theirs:
            job.cancel()

    def _remove(self, job: Job) -> None:
        with self._lock:
            self._jobs.remove(job)
