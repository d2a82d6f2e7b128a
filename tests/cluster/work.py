"""Simulated work for tests of workers: a job of fixed duration, and its tasks."""

import os
import time
from pathlib import Path

from invrecon.cluster.source import Source
from invrecon.cluster.store import Store
from invrecon.cluster.task import Task
from invrecon.cluster.worker import Plan
from invrecon.settings import Settings
from invrecon.writing import replacing


class Work:
    """Takes a while, half of it with a file half written, writes who did it, and ends its process at a photo
    called "deadly".

    Args:
        seconds: for each photo.
    """

    fields = ("input", "error", "resumed", "worker")

    def __init__(self, seconds):
        self.seconds = seconds

    def name_files(self, source):
        return {"output": f"{source.stem}.txt"}

    def run(self, inputs, model, settings, on_progress):
        if any("deadly" in path.name for path in inputs):
            os.kill(os.getpid(), 9)
        time.sleep(self.seconds * len(inputs) / 2)
        return [str(os.getpid()) for _ in inputs]

    def keep(self, result, files, save):
        with replacing(files["output"], save.overwrite) as partial, partial.open("w") as file:
            file.write(f"{result}\n")
            file.flush()
            time.sleep(self.seconds / 2)
            file.write("whole\n")
        return {"psnr": 30.0, "seconds": self.seconds, "worker": int(result)}


def no_model(settings, dtype):
    return None


def plan_for(out: Path, seconds: float = 0.0, **more) -> Plan:
    settings = Settings(batch_size=1, device="cpu")
    return Plan(Work(seconds), settings, Store(str(out)), notes=True, writer="w", load=no_model, **more)


def tasks_for(photos: Path, names: list[str]) -> list[Task]:
    sources = [Source(str(photos / name), name, size=1, stamp="1") for name in names]
    return [
        Task(k, one, {"output": f"{one.name}.txt"}, "", "float32", True, one.name)
        for k, one in enumerate(sources)
    ]
