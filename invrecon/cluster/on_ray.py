"""A cluster: Ray Data hands out what is left to do to a pool of workers, and does it again where they die."""

import json
import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

from invrecon.cluster.notes import count_deaths
from invrecon.cluster.processes import MAX_DEATHS, given_up, portion
from invrecon.cluster.remote import cause
from invrecon.cluster.task import Row, Task
from invrecon.cluster.worker import Plan, Worker
from invrecon.errors import InvreconError, ModelError, UsageError, WorkerError
from invrecon.muted import muted, stdout_for_results

INSTALL = "pip install 'invrecon[ray]'"
MAX_BLOCKS = 4096  # of tasks; with more of them the driver has more to do than the workers
_FATAL: dict[str, type[InvreconError]] = {"UsageError": UsageError, "ModelError": ModelError}


@dataclass(frozen=True)
class RayEngine:
    """Workers of a Ray cluster.

    Args:
        address: of the cluster: "auto", ray://..., or "" for one on this machine.
        workers: how many; 0 for one a GPU, or one a node where there are none.
        gpus_per_worker: of each; 0 for none, None for 1 where the cluster has GPUs.
    """

    plan: Plan
    address: str = ""
    workers: int = 0
    gpus_per_worker: float | None = None

    def do(self, tasks: Sequence[Task]) -> Iterator[list[Row]]:
        """The rows of tasks as they come. What a dead worker was given is done again elsewhere.

        Raises:
            UsageError, ModelError: no input can be done.
            WorkerError: there is no cluster, or a portion ends its worker again and again.
        """
        with stdout_for_results():  # Ray prints what it has to say
            yield from self._do(tasks)

    def _do(self, tasks: Sequence[Task]) -> Iterator[list[Row]]:
        ray, here = self._connect(), os.getcwd()
        plan = replace(self.plan, store=replace(self.plan.store, base=here))
        gpus, workers = self._shape(ray, len(tasks))
        ray.data.DataContext.get_current().max_consecutive_actor_init_deaths = MAX_DEATHS * workers
        rows = max(_portion(self.plan, len(tasks), workers), math.ceil(len(tasks) / MAX_BLOCKS))
        blocks = math.ceil(len(tasks) / rows)
        items = [{"task": replace(task, source=replace(task.source, base=here)).dumps()} for task in tasks]
        data = ray.data.from_items(items, override_num_blocks=blocks).map_batches(
            RayWorker,
            fn_constructor_args=(plan,),
            batch_size=min(rows, _portion(self.plan, len(tasks), workers)),
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=min(workers, blocks)),
            num_gpus=gpus or None,
            num_cpus=1,
        )
        try:
            for row in data.iter_rows():
                told = json.loads(row["row"])
                if kind := told.get("fatal"):
                    raise _FATAL.get(kind, WorkerError)(told["message"])
                yield [told]
        except InvreconError:
            raise
        except Exception as error:  # Ray has many
            raise WorkerError(
                f"the cluster can't go on ({cause(error)}); the same command again does what is left"
            ) from error

    def _connect(self) -> Any:
        """Ray, connected."""
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # of C++, which writes to stderr
        self._knock()
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise UsageError(f"--engine ray needs Ray: {INSTALL}") from error
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_no_progress_timeout_s = -1  # a photo may take as long as it likes
        for name in ("ray", "ray.data"):
            logging.getLogger(name).setLevel(logging.ERROR)
        if not ray.is_initialized():
            if not self.address:
                _end_cluster_on_interrupt()
            given = {"address": self.address} if self.address else {"include_dashboard": False}
            try:
                with muted():
                    ray.init(**given, log_to_driver=False, logging_level=logging.ERROR)
            except Exception as error:  # Ray has many
                raise self._unreachable(error) from error
        return ray

    def _knock(self) -> None:
        """Raises WorkerError where nobody listens, which Ray itself finds out after minutes."""
        host, _, port = self.address.removeprefix("ray://").rpartition(":")
        if host and port.isdigit():
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
            except (OSError, ValueError, OverflowError) as error:
                raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> WorkerError:
        return WorkerError(
            f"no Ray cluster at {self.address or 'this machine'} ({cause(error)}); check --address, or leave "
            "it out to start a cluster of this machine"
        )

    def _shape(self, ray: Any, tasks: int) -> tuple[float, int]:
        """GPUs a worker, and workers."""
        there = ray.cluster_resources().get("GPU", 0)
        gpus = (1.0 if there else 0.0) if self.gpus_per_worker is None else self.gpus_per_worker
        if gpus > there:
            raise UsageError(f"the cluster has {there:g} GPUs: choose a smaller --gpus-per-worker")
        nodes = sum(node["Alive"] for node in ray.nodes())
        fitting = int(there / gpus) if gpus else nodes
        return gpus, max(1, min(self.workers or fitting, tasks))


def _end_cluster_on_interrupt() -> None:
    """Lets Ctrl-C first end the cluster that this process starts: workers remove what they have half written,
    and some of Ray's own processes would stay for a minute.
    """
    import psutil  # comes with Ray

    former = signal.getsignal(signal.SIGINT)

    def end(signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, former)
        processes = psutil.Process().children(recursive=True)
        for process in processes:
            with suppress(psutil.Error):
                process.terminate()
        for process in psutil.wait_procs(processes, timeout=1)[1]:
            with suppress(psutil.Error):
                process.kill()
        if callable(former):
            former(signum, frame)

    if callable(former) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, end)


def _portion(plan: Plan, tasks: int, workers: int) -> int:
    """Photos that a worker is given at a time. At an address each portion is a tar of its own."""
    if plan.pack and plan.store.is_remote:
        return max(portion(plan), min(256, math.ceil(tasks / workers)))
    return portion(plan)


class RayWorker:
    """A worker as an actor of Ray Data: batches of tasks as text in, rows as text out."""

    def __init__(self, plan: Plan) -> None:
        self.worker = Worker(plan)
        self.deaths = count_deaths(plan.store, plan.writer)  # before this worker, which may follow a dead one

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        try:
            tasks = [Task.loads(str(text)) for text in batch["task"]]
            sound = [task for task in tasks if self.deaths.get(task.key, 0) < MAX_DEATHS]
            done = [row for rows in self.worker.do(sound) for row in rows]
            done += [given_up(task) for task in tasks if task not in sound]
            rows = [json.dumps(row, default=str) for row in done]
            if self.worker.plan.store.is_remote:
                self.worker.close()  # in a folder the driver ends what a worker leaves
        except Exception as error:
            rows = [json.dumps({"fatal": type(error).__name__, "message": cause(error)})]
        return {"row": np.array(rows, dtype=object)}
