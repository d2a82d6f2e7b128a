"""Many inputs in one run: all are checked before a model loads, and one that fails stops no other."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from invrecon.cli.boundary import say
from invrecon.cli.inputs import Target, check_header, check_input, check_output, failure, make_folder
from invrecon.cli.output import Output
from invrecon.cli.results import Row, show_results
from invrecon.cli.resume import Earlier
from invrecon.errors import InputError, InvreconError, ModelError, UsageError
from invrecon.formats import is_seed_file, seed_dtype
from invrecon.settings import Settings

if TYPE_CHECKING:
    from PIL.Image import Image

    from invrecon.cli.bars import Overall
    from invrecon.models import Model
    from invrecon.pipeline import OnProgress
    from invrecon.seedfile import Seed

Files = dict[str, Path]  # from the row's field to the file that is written


@dataclass(frozen=True)
class Save:
    """Writes results. Files that have come to be since the run began are kept, unless `overwrite`."""

    overwrite: bool

    def png(self, picture: "Image", path: Path) -> None:
        from invrecon.image import save_png

        save_png(picture, path, self.overwrite)

    def gif(self, frames: "Sequence[Image]", path: Path) -> None:
        from invrecon.image import save_gif

        save_gif(frames, path, overwrite=self.overwrite)

    def seed(self, seed: "Seed", path: Path) -> None:
        from invrecon.seedfile import save_seed

        save_seed(seed, path, self.overwrite)


class Job(Protocol):
    """What a command does with its inputs."""

    @property
    def fields(self) -> Sequence[str]:
        """Fields of a row, as JSON shows them."""

    def name_files(self, source: Path, out: Path) -> Files:
        """The files that are made of an input. Raises InputError where it isn't one for this command."""

    def run(
        self, inputs: Sequence[Path], model: "Model", settings: Settings, on_progress: "OnProgress"
    ) -> Sequence[Any]:
        """Results of several photos, or of one seed file; an error in the place of one that failed."""

    def keep(self, result: Any, files: Files, save: Save) -> Row:
        """Writes the files of one result, and returns its figures."""


def run_batch(
    job: Job, inputs: Sequence[Path], settings: Settings, target: Target, output: Output
) -> list[Row]:
    """Does the job for all inputs and reports each.

    Photos are done in batches of the settings' size, seed files one by one, since each has its own settings;
    and in the dtype that each was found in, where the settings leave it open.

    Returns:
        One row an input, whose "error" is None where all went well.
    """
    make_folder(target.out)
    run = _Run(job, settings, target, output, Earlier(target.out, settings) if target.resume else None)
    rows = run.plan(inputs)
    todo = [number for number, row in enumerate(rows) if row["error"] is None and not row["resumed"]]
    run, told = replace(run, overall=_overall(len(todo))), 0
    for dtype, numbers in groupby(todo, lambda number: _dtype(rows[number]["input"], settings)):
        for batch in run.do_all(list(numbers), rows, dtype):
            run.tell(rows[told : batch[-1] + 1])
            told = batch[-1] + 1
    run.tell(rows[told:])
    show_results(output, rows)
    return rows


@dataclass(frozen=True)
class _Run:
    job: Job
    settings: Settings
    target: Target
    output: Output
    earlier: Earlier | None
    overall: "Overall | None" = None

    def plan(self, inputs: Sequence[Path]) -> list[Row]:
        """A row for each input: its files if it can be done, its figures if it was before, or its error."""
        rows: list[Row] = []
        owners: dict[Path, Path] = {}
        for source in inputs:
            try:
                check_input(source)
                files = self.job.name_files(source, self.target.out)
                check_header(source)  # names are for those that can be read
                for path in files.values():
                    check_output(path, inputs, owners, self._may_overwrite(source, files))
            except (InputError, OSError) as error:
                rows.append(failure(source, error))
            else:
                owners |= dict.fromkeys(files.values(), source)
                figures = self.earlier.figures(source, files.values()) if self.earlier else None
                known = {"resumed": figures is not None, "error": None}
                rows.append(_warned({"input": source, **files, **(figures or {}), **known}))
        return rows

    def _may_overwrite(self, source: Path, files: Files) -> bool:
        mine = self.earlier is not None and self.earlier.begun(source, files.values())
        return self.target.force or mine

    def do_all(self, numbers: Sequence[int], rows: list[Row], dtype: str) -> Iterator[list[int]]:
        """Does inputs of one dtype, by their numbers, with a model that is loaded for them; yields the
        numbers of each batch as its rows are there.
        """
        from invrecon import pipeline

        model = load(self.settings, self.output, dtype)
        self.output.line(pipeline.memory_line(model, self.settings))
        for batch in _batches(numbers, rows, model, self.settings):
            done = self.do([rows[number] for number in batch], model, _place(batch, len(rows)))
            for number, row in zip(batch, done, strict=True):
                rows[number] = row
            yield batch

    def do(self, batch: Sequence[Row], model: "Model", place: str) -> list[Row]:
        """The rows of inputs that are done together."""
        import torch

        from invrecon.models.memory import peak_memory, reset_peak

        sources, device = [row["input"] for row in batch], torch.device(model.device)
        torch.manual_seed(self.settings.seed)  # for each batch anew: what was done before changes nothing
        reset_peak(device)
        with self.output.progress(f"{place} {sources[0].name}", self.overall) as on_progress:
            results = self.job.run(sources, model, self.settings, on_progress)
        if self.overall:
            self.overall.advance(len(batch))
        peak = peak_memory(device)
        told = {"peak_memory_mb": None if peak is None else peak / 1e6}
        return [self._keep(row, result, told) for row, result in zip(batch, results, strict=True)]

    def _keep(self, row: Row, result: Any, told: Row) -> Row:
        source = row["input"]
        files = {name: path for name, path in row.items() if name not in ("input", "resumed", "error")}
        try:
            if isinstance(result, InvreconError):
                raise result
            save = Save(self._may_overwrite(source, files))
            if self.earlier:
                self.earlier.note(source, files.values(), None)
            figures = self.job.keep(result, files, save) | told
            if self.earlier:
                self.earlier.note(source, files.values(), figures)
        except (UsageError, ModelError):
            raise  # no input can be done with these
        except InvreconError as error:
            return failure(source, error)
        return _warned(row | figures)

    def tell(self, rows: Sequence[Row]) -> None:
        """Prints rows as JSON, where that is asked for."""
        for row in rows:
            self.output.record({field: row.get(field) for field in self.job.fields})


def _overall(inputs: int) -> "Overall | None":
    """What the bar of all inputs shows; None where there is only one."""
    if inputs < 2:
        return None
    from invrecon.cli.bars import Overall

    return Overall(inputs)


def _batches(
    todo: Sequence[int], rows: Sequence[Row], model: "Model", settings: Settings
) -> Iterator[list[int]]:
    """The numbers of the inputs that are done together, in order."""
    from invrecon import pipeline

    for seeds, numbers in groupby(todo, lambda number: is_seed_file(rows[number]["input"])):
        alike = list(numbers)
        size = 1 if seeds or len(alike) == 1 else pipeline.batch_size(model, settings)
        for first in range(0, len(alike), size):
            yield alike[first : first + size]


def _dtype(source: Path, settings: Settings) -> str:
    """In what precision the network runs for an input: a seed file's own, unless the settings say one."""
    own = seed_dtype(source) if settings.dtype == "auto" and is_seed_file(source) else None
    return own or settings.dtype


def _place(batch: Sequence[int], total: int) -> str:
    """Which of all inputs these are, for people: 3/9, or 3-6/9."""
    first, last = batch[0] + 1, batch[-1] + 1
    return f"{first}/{total}" if first == last else f"{first}-{last}/{total}"


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
    from invrecon.models import load_model

    with output.progress(f"loading {settings.model}"):
        return load_model(
            settings.model,
            settings.device,
            dtype or settings.dtype,
            revision=settings.revision,
            variant=settings.variant,
            base=settings.base,
            vae=settings.vae,
            offload=settings.offload,
            tiling=settings.tiling,
            compiled=settings.compile,
        )


def _warned(row: Row) -> Row:
    if row.get("advice"):
        say(f"warning: {row['input']}: {row['advice']}")
    return row


def exit_code(rows: Sequence[Row], min_psnr: float | None = None) -> int:
    """What the program ends with. Results below `min_psnr` dB are named; those without a photo pass."""
    known = [row for row in rows if row.get("psnr") is not None]
    short = [row for row in known if min_psnr is not None and not row["psnr"] >= min_psnr]
    for row in short:
        say(f"{row['input']}: PSNR {row['psnr']:.2f} dB falls short of --min-psnr {min_psnr:g}")
    return 1 if any(row["error"] for row in rows) else 3 if short else 0
