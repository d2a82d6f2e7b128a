"""Many inputs in one run: all are checked before a model loads, and one that fails stops no other."""

import gc
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invrecon.cli.boundary import say
from invrecon.cli.dataset import Resumable
from invrecon.cli.dry_run import tell_plan
from invrecon.cli.output import Output
from invrecon.cli.pace import Pace
from invrecon.cli.results import Row, show_results
from invrecon.cluster.notes import Notebook, Notes
from invrecon.cluster.pack import salvage
from invrecon.cluster.planning import Planner
from invrecon.cluster.source import Source
from invrecon.cluster.store import Store
from invrecon.cluster.task import Files, Job, Save, Task
from invrecon.cluster.worker import Plan, Worker
from invrecon.cluster.worker import load as load_quietly
from invrecon.errors import InvreconError, ModelError, UsageError
from invrecon.settings import Settings

if TYPE_CHECKING:
    from invrecon.models import Model

__all__ = ["Files", "Job", "Save", "attempt", "exit_code", "load", "run_batch"]


def run_batch(
    job: Job, sources: Sequence[Source], settings: Settings, target: Resumable, output: Output
) -> list[Row]:
    """Does the job for all inputs and reports each.

    Photos are done in batches of the settings' size, seed files one by one, since each has its own settings;
    and in the dtype that each was found in, where the settings leave it open.

    Returns:
        One row an input, whose "error" is None where all went well.
    """
    with uncollected():
        run = _Run(job, settings, target, output)
        rows = run.plan(sources)
    if target.dry_run:
        tell_plan(run.workers, rows, run.planner.tasks, output)
        return rows
    for row in run.do(rows):
        output.record({field: row.get(field) for field in job.fields})
    show_results(output, rows)
    return rows


@contextmanager
def uncollected() -> Iterator[None]:
    """Keeps Python from looking for garbage, again and again, among the very many notes and rows that a block
    makes, all of which are needed.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Run:
    """A run between its steps."""

    def __init__(self, job: Job, settings: Settings, target: Resumable, output: Output) -> None:
        self.settings, self.target, self.output = settings, target, output
        store = Store(target.out)
        store.make()
        names = store.names()
        if target.pack and target.resumes and salvage(store, names):
            names = store.names()
        told = (
            {"seed_dtype": target.seed_dtype, "pack": target.pack}
            if target.pack
            else ({"seed_dtype": target.seed_dtype})
        )
        notes = Notes(store, settings, told, names, target.verify_bytes) if target.resumes else None
        self.planner = Planner(
            job,
            settings,
            store,
            names,
            notes,
            force=target.force,
            keep_tree=target.keep_tree,
            packed=bool(target.pack),
            part=target.part,
        )
        self.workers = Plan(
            job,
            settings,
            store,
            seed_dtype=target.seed_dtype,
            metadata=target.metadata,
            notes=target.resumes,
            pack=bool(target.pack),
            writer=_writer(target),
        )

    def plan(self, sources: Sequence[Source]) -> list[Row]:
        """A row for each input; errors are told, and noted."""
        rows = self.planner.plan(sources)
        if self.planner.results:
            say(f"{self.planner.results} results of earlier runs among the photos are passed over")
        for row in rows:
            _tell(row)
        failed = [row for row in rows if row["error"]]
        if failed and self.target.resumes and not self.target.dry_run:
            Notebook(self.workers.store, self.workers.writer).add(
                [
                    {"key": f"input {row['input']}", "input": row["name"], "error": row["error"]}
                    for row in failed
                ]
            )
        return rows

    def do(self, rows: list[Row]) -> Iterator[Row]:
        """Does the tasks, and yields all rows: those of workers elsewhere as they come, else in order."""
        tasks = self.planner.tasks
        pace = Pace(len(tasks), failed=sum(row["error"] is not None for row in rows))
        waiting, told = {task.number for task in tasks}, 0
        elsewhere = self.target.engine is not None or "," in self.settings.device
        if elsewhere:
            yield from (row for row in rows if row["number"] not in waiting)
        with closing(self._engine(tasks, pace, len(rows))) as batches:
            for row in (row for batch in batches for row in batch):
                if not pace.done:
                    _tell_words(self.settings)
                rows[row["number"]] = row
                waiting.discard(row["number"])
                pace.add(row["error"] is not None)
                _tell(row)
                if elsewhere:
                    yield row
                while not elsewhere and told < len(rows) and told not in waiting:
                    yield rows[told]
                    told += 1
                if self._stops(pace):
                    break
        if not elsewhere:
            yield from (row for row in rows[told:] if row["number"] not in waiting)
        if waiting:
            say(
                f"stopped after {pace.failed} failures (--max-failures); "
                f"{len(waiting)} inputs are left undone"
            )
            rows[:] = [row for row in rows if row["number"] not in waiting]

    def _stops(self, pace: Pace) -> bool:
        return self.target.max_failures is not None and pace.failed >= self.target.max_failures

    def _engine(self, tasks: Sequence[Task], pace: Pace, total: int) -> Generator[list[Row], None, None]:
        """The rows of tasks, from the workers that the user asked for."""
        if not tasks or self._stops(pace):
            return
        if self.target.engine is None and "," not in self.settings.device:
            yield from self._here(tasks, pace, total)
            return
        plan = self.workers
        with self.output.progress(f"{len(tasks)} photos") as on_progress:
            for rows in self._elsewhere(plan).do(tasks):
                yield rows
                on_progress(pace.text(), pace.done, pace.total)
        if self.target.pack:
            salvage(plan.store, plan.store.names())

    def _here(self, tasks: Sequence[Task], pace: Pace, total: int) -> Iterator[list[Row]]:
        from invrecon import pipeline
        from invrecon.cli.bars import Overall

        overall = Overall(len(tasks)) if len(tasks) > 1 else None
        worker = Worker(self.workers, lambda title: self.output.progress(title, overall))
        self.output.line(pipeline.memory_line(worker.model(tasks[0].dtype), self.settings))

        def title(batch: Sequence[Task]) -> str:
            first, last, pacing = batch[0].number + 1, batch[-1].number + 1, pace.text()
            place = f"{first}/{total}" if first == last else f"{first}-{last}/{total}"
            return f"{place} {Path(batch[0].source.name).name}" + (f" ({pacing})" if pacing else "")

        try:
            for rows in worker.do(tasks, title):
                if overall:
                    overall.advance(len(rows))
                yield rows
        finally:
            worker.close()

    def _elsewhere(self, plan: Plan) -> Any:
        if self.target.engine is None:
            from invrecon.cluster.processes import Processes

            return Processes(replace(plan, writer=plan.writer or "worker"), self.settings.device.split(","))
        from invrecon.cluster.on_ray import RayEngine

        target = self.target
        ours = replace(plan, writer=f"{plan.writer or 'ray'}-{os.urandom(4).hex()}")
        return RayEngine(ours, target.address, target.workers, target.gpus_per_worker)


def _writer(target: Resumable) -> str:
    """Part of the names of a shard's notes and tars."""
    return "{}-of-{}".format(*target.part) if target.part else ""


def _tell(row: Row) -> None:
    """Says on stderr what a person should know of a row."""
    if row["error"]:
        say(row["error"])
    elif row.get("advice"):
        say(f"warning: {row['input']}: {row['advice']}")


def attempt(work: Callable[[], Any]) -> list[Any]:
    """The result of the work on one input, or its error; for `Job.run`."""
    try:
        return [work()]
    except (UsageError, ModelError):
        raise
    except InvreconError as error:
        return [error]


def load(settings: Settings, output: Output, dtype: str = "") -> "Model":
    """The model that the settings name, with a bar while it loads; in `dtype` where that isn't empty."""
    with output.progress(f"loading {settings.model}"):
        model = load_quietly(settings, dtype)
    _tell_words(settings)
    return model


def _tell_words(settings: Settings) -> None:
    """Says how prompts name learnt words, where those of the settings don't. Raises ModelError where a file
    holds none."""
    if settings.embedding:
        from invrecon.models import learnt_words

        for file, word in learnt_words(settings.embedding).items():
            if word not in f"{settings.prompt} {settings.negative_prompt}":
                say(f"{file}: its word in prompts is {word}")


def exit_code(rows: Sequence[Row], min_psnr: float | None = None) -> int:
    """What the program ends with. Results below `min_psnr` dB are named; those without a photo pass."""
    known = [row for row in rows if row.get("psnr") is not None]
    short = [row for row in known if min_psnr is not None and not row["psnr"] >= min_psnr]
    for row in short:
        say(f"{row['input']}: PSNR {row['psnr']:.2f} dB falls short of --min-psnr {min_psnr:g}")
    if any(row.get("worker_died") for row in rows):
        return 4
    return 1 if any(row["error"] for row in rows) else 3 if short else 0
