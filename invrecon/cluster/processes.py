"""Several devices of one machine: a worker process for each, which takes the next photos when it is ready."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from invrecon.cluster.task import Row, Task
from invrecon.cluster.worker import Plan, Worker, told
from invrecon.errors import InputError, InvreconError, ModelError, UsageError, WorkerError
from invrecon.writing import remove_unfinished

MAX_DEATHS = 3  # of workers before their first photo, and with one and the same photo
_FATAL: dict[str, type[InvreconError]] = {"UsageError": UsageError, "ModelError": ModelError}


@dataclass
class _Process:
    """A worker process, and what it was given last."""

    device: str
    process: Any
    pipe: Connection
    given: list[Task] = field(default_factory=list)
    useful: bool = False  # whether it has done anything


@dataclass
class Processes:
    """Worker processes, one a device.

    Args:
        devices: as torch names them; one that is named twice has two workers.
    """

    plan: Plan
    devices: Sequence[str]

    def do(self, tasks: Sequence[Task]) -> Iterator[list[Row]]:
        """The rows of tasks as they come.

        A worker that dies is started anew, and what it was given is done again, photo by photo. A photo with
        which three workers died is a row with an error.

        Raises:
            UsageError, ModelError: no input can be done.
            WorkerError: workers die before they have done anything.
        """
        self._waiting = deque(_portions(tasks, self.plan))
        self._deaths: dict[int, int] = {}
        self._stillborn = 0
        self._running = [self._start(device) for device in self.devices[: len(self._waiting)]]
        try:
            while self._running:
                ready = wait([one.pipe for one in self._running])
                for worker in [one for one in self._running if one.pipe in ready]:
                    try:
                        message = worker.pipe.recv()
                    except (EOFError, ConnectionError):
                        yield from self._bury(worker)
                    else:
                        yield from self._answer(worker, *message)
        finally:
            for worker in self._running:
                worker.process.kill()

    def _start(self, device: str) -> _Process:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        plan = replace(self.plan, settings=replace(self.plan.settings, device=device))
        process = context.Process(target=serve, args=(plan, theirs), daemon=True)
        with _deaf_to_interrupts():
            process.start()
        theirs.close()
        return _Process(device, process, ours)

    def _answer(self, worker: _Process, kind: str, content: Any) -> Iterator[list[Row]]:
        """Takes a worker's message: its rows, that it is ready for more, or why nothing can be done."""
        if kind == "rows":
            done = {row["number"] for row in content}
            worker.given = [task for task in worker.given if task.number not in done]
            worker.useful = True
            yield content
        elif kind == "ready":
            worker.given = self._waiting.popleft() if self._waiting else []
            with suppress(ConnectionError):  # it died, as the next read says
                worker.pipe.send([task.dumps() for task in worker.given])
        elif kind == "closed":
            worker.process.join()
            self._running.remove(worker)
        else:
            raise _FATAL.get(kind, WorkerError)(content)

    def _bury(self, worker: _Process) -> Iterator[list[Row]]:
        """Hands on what a dead worker was given."""
        worker.process.join()
        self._running.remove(worker)
        self._stillborn = 0 if worker.useful else self._stillborn + 1
        lost = []
        for task in worker.given:
            self._deaths[task.number] = self._deaths.get(task.number, 0) + 1
            if self._deaths[task.number] < MAX_DEATHS:
                lost.append(task)
            else:
                yield [given_up(task)]
        self._waiting.extendleft([task] for task in reversed(lost))
        if self._stillborn >= MAX_DEATHS * len(self.devices):
            code = worker.process.exitcode
            raise WorkerError(
                f"workers on {worker.device} end (exit code {code}) before they have done anything: "
                f"try --device {worker.device} alone, and look at the machine's memory"
            )
        if self._waiting:
            self._running.append(self._start(worker.device))


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Ctrl-C reaches all processes of a terminal: those that begin in this block leave it to their parent,
    with which they end; to this one it comes after the block.
    """
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    resource_tracker.ensure_running()  # which would unblock the signal as it begins
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def serve(plan: Plan, pipe: Connection) -> None:
    """What a worker process does: asks for tasks until there are none."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    worker = Worker(plan)
    try:
        pipe.send(("ready", None))
        while told_tasks := pipe.recv():
            for rows in worker.do([Task.loads(text) for text in told_tasks]):
                pipe.send(("rows", rows))
            pipe.send(("ready", None))
        worker.close()
        pipe.send(("closed", None))
    except (EOFError, ConnectionError):
        pass  # the parent is gone
    except Exception as error:
        pipe.send((type(error).__name__, str(error)))


def given_up(task: Task) -> Row:
    """The row of an input that workers died with."""
    message = told(task.source.address, InputError(f"{MAX_DEATHS} workers died with it; try it alone"))
    row: Row = {"number": task.number, "input": task.source.address, "error": message}
    return row | {"worker_died": True}


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    remove_unfinished()
    os._exit(1)


def _portions(tasks: Sequence[Task], plan: Plan) -> list[list[Task]]:
    """What a worker is given at a time."""
    size = portion(plan)
    return [list(tasks[first : first + size]) for first in range(0, len(tasks), size)]


def portion(plan: Plan) -> int:
    """Photos that a worker is given at a time: a batch, or as many as an automatic one may have."""
    size = plan.settings.batch_size
    if size != "auto":
        return int(size)
    return 1 if plan.settings.device.startswith("cpu") else 16
