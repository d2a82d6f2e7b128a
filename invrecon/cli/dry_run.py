"""`--dry-run`: what would be done, and what it would take."""

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from tempfile import TemporaryDirectory

from invrecon.cli.output import Output
from invrecon.cli.pace import readable
from invrecon.cli.results import Row
from invrecon.cluster.store import Store
from invrecon.cluster.task import Task
from invrecon.cluster.worker import Plan, Worker

TRIED = 3  # photos


def tell_plan(plan: Plan, rows: Sequence[Row], tasks: Sequence[Task], output: Output) -> None:
    """Says how many inputs there are to do, are done, and can't be done. Does three of them into a folder
    that is thrown away, and estimates time and disk for all.
    """
    told: dict[str, float] = {
        "inputs": len(rows),
        "to_do": len(tasks),
        "done": sum(bool(row.get("resumed")) for row in rows),
        "failed": sum(row["error"] is not None for row in rows),
    }
    if tasks:
        seconds, size, failed = _try(plan, tasks[:: max(1, len(tasks) // TRIED)][:TRIED], output)
        told |= {"seconds_each": seconds, "bytes_each": size, "tried_failed": failed}
        told |= {"seconds": seconds * len(tasks), "bytes": size * len(tasks)}
    output.record(told)
    output.line("{inputs} inputs: {to_do} to do, {done} done, {failed} can't be done".format(**told))
    if tasks:
        output.line(
            f"about {readable(told['seconds'])} with one worker and {told['bytes'] / 1e9:.3g} GB, by "
            f"{min(TRIED, len(tasks))} of them ({told['seconds_each']:.3g} s and "
            f"{told['bytes_each'] / 1e6:.3g} MB each)" + f", of which {failed} failed" * bool(failed)
        )


def _try(plan: Plan, tasks: Sequence[Task], output: Output) -> tuple[float, float, int]:
    """Seconds and bytes for each of some tasks, and how many failed. Loading the model isn't counted."""
    with TemporaryDirectory(prefix="invrecon-") as folder:
        device = plan.settings.device.split(",")[0]
        settings = replace(plan.settings, device=device)
        trial = replace(plan, settings=settings, store=Store(folder), notes=False, pack=False)
        worker = Worker(trial, output.progress)
        worker.model(tasks[0].dtype)
        begun = time.monotonic()
        rows = [row for done in worker.do(tasks) for row in done]
        seconds = (time.monotonic() - begun) / len(tasks)
        written = sum(
            os.path.getsize(os.path.join(place, name))
            for place, _, names in os.walk(folder)
            for name in names
        )
        failed = sum(row["error"] is not None for row in rows)
        return seconds, written / max(1, len(tasks) - failed), failed
