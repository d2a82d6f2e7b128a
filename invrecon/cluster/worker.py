"""What does the work: a model, and the photos that are put through it. Every engine has workers of this
kind.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from invrecon.cluster.notes import Notebook, count_begun
from invrecon.cluster.pack import Pack
from invrecon.cluster.source import sha256_of
from invrecon.cluster.store import Store
from invrecon.cluster.task import Files, Job, Row, Save, Task
from invrecon.errors import InputError, InvreconError, ModelError, UsageError, printable
from invrecon.formats import is_seed_file
from invrecon.jsonable import jsonable
from invrecon.muted import leave_no_semaphore
from invrecon.settings import Settings

if TYPE_CHECKING:
    from invrecon.models import Model
    from invrecon.pipeline import OnProgress

Progress = Callable[[str], AbstractContextManager["OnProgress"]]
"""A bar with a title; what it gives is called with (stage, steps done, steps in all)."""


def no_progress(title: str) -> AbstractContextManager["OnProgress"]:
    """`Progress` for workers that nobody watches."""
    return nullcontext(lambda stage, done, total: None)


def load(settings: Settings, dtype: str = "") -> "Model":
    """The model that the settings name; in `dtype` where that isn't empty."""
    from invrecon.models import load_model

    leave_no_semaphore()
    return load_model(
        settings.model,
        settings.device,
        dtype or settings.dtype,
        revision=settings.revision,
        variant=settings.variant,
        base=settings.base,
        vae=settings.vae,
        lora=settings.lora,
        embedding=settings.embedding,
        offload=settings.offload,
        tiling=settings.tiling,
        compiled=settings.compile,
    )


@dataclass(frozen=True)
class Plan:
    """What all workers of a run are told once.

    Args:
        notes: whether notes are made for --resume.
        pack: whether results go into tars.
        writer: part of the names of notes and tars.
        load: makes the model of settings, in a precision.
    """

    job: Job
    settings: Settings
    store: Store
    seed_dtype: str = "float32"
    metadata: bool = True
    notes: bool = False
    pack: bool = False
    writer: str = ""
    load: Callable[[Settings, str], "Model"] = load


@dataclass
class Worker:
    """Does tasks with a model, which is loaded when the first one comes."""

    plan: Plan
    progress: Progress = no_progress
    _loaded: dict[str, "Model"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        plan = self.plan
        self._notebook = Notebook(plan.store, plan.writer) if plan.notes else None
        self._pack = Pack(plan.store, plan.writer) if plan.pack else None

    def do(self, tasks: Sequence[Task], title: Callable[[Sequence[Task]], str] = str) -> Iterator[list[Row]]:
        """The rows of tasks, a batch at a time, in order.

        Args:
            title: of the bar of a batch.

        Raises:
            UsageError, ModelError: no input can be done.
        """
        for dtype, alike in groupby(tasks, lambda task: task.dtype):
            model = self.model(dtype)
            for batch in _batches(list(alike), model, self.plan.settings):
                with ExitStack() as stack, self.progress(title(batch)) as on_progress:
                    yield self._do(batch, model, on_progress, stack)

    def model(self, dtype: str) -> "Model":
        """The model in a precision."""
        if dtype not in self._loaded:
            self._loaded.clear()  # one at a time is in the memory
            with self.progress(f"loading {self.plan.settings.model}"):
                self._loaded[dtype] = self.plan.load(self.plan.settings, dtype)
        return self._loaded[dtype]

    def close(self) -> None:
        """Ends what is being written."""
        if self._pack:
            self._pack.close()

    def _do(
        self, batch: Sequence[Task], model: "Model", on_progress: "OnProgress", stack: ExitStack
    ) -> list[Row]:
        """The rows of inputs that are done together."""
        import torch

        from invrecon.models.memory import peak_memory, reset_peak

        device = torch.device(getattr(model, "device", "cpu"))
        reset_peak(device)
        torch.manual_seed(
            self.plan.settings.seed
        )  # for each batch anew: what was done before changes nothing
        self._note([(task, {}) for task in batch])
        paths: dict[int, Path] = {}
        results: dict[int, Any] = {}
        for task in batch:
            try:
                paths[task.number] = stack.enter_context(task.source.local())
            except (InvreconError, OSError) as error:
                results[task.number] = as_input_error(error)
        there = [task for task in batch if task.number in paths]
        results |= self._run(there, paths, model, on_progress) if there else {}
        peak = peak_memory(device)
        memory = {"peak_memory_mb": None if peak is None else peak / 1e6}
        return [self._keep(task, paths.get(task.number), results[task.number], memory) for task in batch]

    def _run(
        self, batch: Sequence[Task], paths: dict[int, Path], model: "Model", on_progress: "OnProgress"
    ) -> dict[int, Any]:
        """Results by their numbers. A batch for which the memory doesn't suffice is halved."""
        common = self.plan.settings
        given: Settings | list[Settings] = common
        if any(task.prompt != common.prompt and not _is_seed(task) for task in batch):
            given = [replace(common, prompt=task.prompt) for task in batch]
        inputs = [paths[task.number] for task in batch]
        try:
            results = self.plan.job.run(inputs, model, given, on_progress)
            return {task.number: result for task, result in zip(batch, results, strict=True)}
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        free_cache()  # here, where the error no longer holds the batch's tensors
        if len(batch) == 1:
            lack = InputError("the memory doesn't hold it; take a smaller --size, or --offload model")
            return {batch[0].number: lack}
        half = len(batch) // 2
        parts = (batch[:half], batch[half:])
        return {k: one for part in parts for k, one in self._run(part, paths, model, on_progress).items()}

    def _keep(self, task: Task, path: Path | None, result: Any, memory: Row) -> Row:
        """Writes the files of a result; its row, or that of its error."""
        source = task.source
        row: Row = {"number": task.number, "input": source.address, "error": None}
        try:
            if isinstance(result, InvreconError):
                raise result
            figures, pack = self._write(task, result)
            figures |= memory
            done = jsonable({"figures": figures, "pack": pack})
            if path and self._notebook:
                done["sha256"] = sha256_of(path)
            self._note([(task, done)])
        except (UsageError, ModelError):
            raise  # no input can be done with these
        except InvreconError as error:
            message = told(source.address, error, path)
            self._note([(task, {"error": message})])
            return row | {"error": message}
        places = {field: self.plan.store.place(name) for field, name in task.files.items()}
        if pack:
            places = {field: self.plan.store.place(f"{pack}/{name}") for field, name in task.files.items()}
        return row | places | figures | {"resumed": False, "files": list(places.values())}

    def _write(self, task: Task, result: Any) -> tuple[Row, str | None]:
        save = Save(task.overwrite, self.plan.seed_dtype, self.plan.metadata)
        if not self._pack:
            try:
                return self._write_files(task, result, save), None
            except InvreconError:
                if task.overwrite or not self._is_shared(task):
                    raise
            return self._write_files(task, result, replace(save, overwrite=True)), None
        with TemporaryDirectory(prefix="invrecon-") as folder:
            local: Files = {
                field: Path(folder, str(k)) / Path(name).name
                for k, (field, name) in enumerate(task.files.items())
            }
            figures = self.plan.job.keep(result, local, save)
            files = {name: local[field] for field, name in task.files.items() if local[field].exists()}
            stem = PurePosixPath(task.files["output"])
            note = str(stem.with_name(stem.name.split(".")[0] + ".json"))
            return figures, self._pack.add(files, note, {"input": task.source.name} | figures)

    def _write_files(self, task: Task, result: Any, save: Save) -> Row:
        with self.plan.store.writing(task.files, save.overwrite) as files:
            return self.plan.job.keep(result, files, save)

    def _is_shared(self, task: Task) -> bool:
        """Whether another run is at this input under the same settings, so that its files may be replaced:
        workers of a cluster outlive a driver that is killed.
        """
        return bool(self._notebook) and count_begun(self.plan.store, task.key) > 1

    def _note(self, notes: Sequence[tuple[Task, dict[str, Any]]]) -> None:
        if not self._notebook:
            return
        self._notebook.add(
            [
                {
                    "key": task.key,
                    "input": task.source.name,
                    "files": dict(task.files),
                    "size": task.source.size,
                    "stamp": task.source.stamp,
                }
                | more
                for task, more in notes
            ]
        )


def _batches(tasks: Sequence[Task], model: "Model", settings: Settings) -> Iterator[list[Task]]:
    """Inputs that are done together, in order: photos in batches, seed files one by one, since each has its
    own settings.
    """
    for seeds, group in groupby(tasks, _is_seed):
        alike = list(group)
        size = 1 if seeds or len(alike) == 1 else _batch_size(model, settings)
        for first in range(0, len(alike), size):
            yield alike[first : first + size]


def _batch_size(model: "Model", settings: Settings) -> int:
    if settings.batch_size != "auto":
        return int(settings.batch_size)
    from invrecon import pipeline

    return pipeline.batch_size(model, settings)


def _is_seed(task: Task) -> bool:
    return is_seed_file(Path(task.source.name))


def as_input_error(error: InvreconError | OSError) -> InvreconError:
    """An error of an input as one that can be told."""
    if isinstance(error, OSError):
        return InputError(f"can't be used ({error.strerror}); check its name and permissions")
    return error


def told(address: str, error: Exception, path: Path | None = None) -> str:
    """An input's error on one line that begins with its address."""
    name, message = printable(address), printable(error)
    if path and message.startswith(f"{printable(path)}: "):  # the name of a copy
        message = message.removeprefix(f"{printable(path)}: ")
    return message if message.startswith(name + ":") else f"{name}: {message}"


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device or the machine had too little memory for a batch."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    words = ("out of memory", "can't allocate memory")
    return isinstance(error, RuntimeError) and any(one in str(error) for one in words)


def free_cache() -> None:
    """Gives memory that torch keeps on a card back to it."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
