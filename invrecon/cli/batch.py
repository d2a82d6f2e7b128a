"""Many inputs in one run: all are checked before the model loads, and one that fails doesn't stop the others."""

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from invrecon.cli.boundary import say
from invrecon.cli.output import JSON_FIELDS, Row, json_line, print_results, progress_bar
from invrecon.cli.resume import Earlier
from invrecon.errors import InputError, InvreconError, ModelError, UsageError, printable
from invrecon.settings import Settings

if TYPE_CHECKING:
    from invrecon.models import Model
    from invrecon.pipeline import OnProgress

Files = dict[str, Path]  # from the row's field to the file that is written
NameFiles = Callable[[Path, Path], Files]  # (input, folder) -> files
Task = Callable[
    [Sequence[Path], "Model", Settings, "OnProgress"], Sequence[Any]
]  # inputs -> results, an error for one that failed
Keep = Callable[[Any, Files], Row]  # writes the files of one result, returns its figures


def run_batch(
    inputs: Sequence[Path],
    task: Task,
    keep: Keep,
    name_files: NameFiles,
    settings: Settings,
    *,
    out: Path,
    force: bool,
    as_json: bool,
    quiet: bool,
    resume: bool = False,
    fields: Sequence[str] = JSON_FIELDS,
) -> list[Row]:
    """Does `task` for all inputs and reports each. Returns one row an input, whose "error" is None where all went well.

    Photos are done in batches of the settings' size, seed files one by one, since each has settings of its own.

    Args:
        fields: of the rows, as JSON shows them.
    """
    make_folder(out)
    earlier = Earlier(out, settings) if resume else None
    rows = _plan(inputs, out, name_files, force, earlier)
    todo = [number for number, row in enumerate(rows) if row["error"] is None and not row["resumed"]]
    told = 0
    if todo:
        model = load(settings, quiet)
        for batch in _batches(todo, rows, model, settings):
            done = _do(
                [rows[number] for number in batch],
                task,
                keep,
                model,
                settings,
                _place(batch, len(rows)),
                quiet,
                earlier,
            )
            for number, row in zip(batch, done, strict=True):
                rows[number] = row
            _tell(rows[told : batch[-1] + 1], fields, as_json)
            told = batch[-1] + 1
    _tell(rows[told:], fields, as_json)
    if not (as_json or quiet):
        print_results(rows)
    return rows


def _tell(rows: Sequence[Row], fields: Sequence[str], as_json: bool) -> None:
    for row in rows if as_json else ():
        typer.echo(json_line(row, fields))


def _batches(
    todo: Sequence[int], rows: Sequence[Row], model: "Model", settings: Settings
) -> Iterator[list[int]]:
    """The numbers of the inputs that are done together, in order."""
    from invrecon import pipeline

    for seeds, numbers in groupby(todo, lambda number: is_seed_name(rows[number]["input"])):
        alike = list(numbers)
        size = 1 if seeds or len(alike) == 1 else pipeline.batch_size(model, settings)
        for first in range(0, len(alike), size):
            yield alike[first : first + size]


def _place(batch: Sequence[int], total: int) -> str:
    """Which of all inputs these are, for people: 3/9, or 3-6/9."""
    first, last = batch[0] + 1, batch[-1] + 1
    return f"{first}/{total}" if first == last else f"{first}-{last}/{total}"


def is_seed_name(path: Path) -> bool:
    """Whether an input is taken for a seed file; told by the name, before torch is imported."""
    return path.suffix.lower() == ".safetensors"


def attempt(work: Callable[[], Any]) -> list[Any]:
    """The result of the work on one input, or its error; for a `Task`."""
    try:
        return [work()]
    except (UsageError, ModelError):
        raise
    except InvreconError as error:
        return [error]


def make_folder(out: Path) -> None:
    """Makes the folder for results. Raises UsageError where it can't be made or written to."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"can't make the folder {out} ({error.strerror}); choose another --out") from error
    if not os.access(out, os.W_OK):
        raise UsageError(f"can't write into the folder {out}; choose another --out")


def _plan(
    inputs: Sequence[Path], out: Path, name_files: NameFiles, force: bool, earlier: Earlier | None
) -> list[Row]:
    """A row for each input: its files where it can be done, its figures where it was before, else its error."""
    rows: list[Row] = []
    owners: dict[Path, Path] = {}
    for source in inputs:
        try:
            check_input(source)
            files = name_files(source, out)
            mine = force or (earlier is not None and earlier.begun(source, files.values()))
            for path in files.values():
                check_output(path, inputs, owners, mine)
        except (InputError, OSError) as error:
            rows.append(failure(source, error))
        else:
            owners |= dict.fromkeys(files.values(), source)
            figures = earlier.figures(source, files.values()) if earlier else None
            rows.append(
                _warned(
                    {
                        "input": source,
                        **files,
                        **(figures or {}),
                        "resumed": figures is not None,
                        "error": None,
                    }
                )
            )
    return rows


def check_input(source: Path) -> None:
    """Raises InputError or OSError where an input isn't a file that can be opened."""
    if source.is_dir():
        raise InputError("is a folder; give the photos in it instead")
    if source.exists() and not source.is_file():
        raise InputError("isn't a regular file; copy it into one first")
    source.open("rb").close()


def check_output(path: Path, inputs: Sequence[Path], owners: dict[Path, Path], force: bool) -> None:
    """Raises InputError where a result can't be written to `path`: another input of `owners` claims it, it exists, or is an input."""
    if path in owners:
        raise InputError(
            f"would write {path}, as {owners[path]} does; rename it or give it another --out in a run of its own"
        )
    try:
        path.lstat()
    except FileNotFoundError:
        return
    if not force:
        raise InputError(f"{path} exists; overwrite it with --force or choose another --out")
    if any(source.exists() and source.samefile(path) for source in inputs):
        raise InputError(f"would overwrite {path}, an input of this run; choose another --out")


def load(settings: Settings, quiet: bool) -> "Model":
    """The model that the settings name, with a bar while it loads."""
    from invrecon.models import load_model

    with progress_bar(f"loading {settings.model}", quiet):
        return load_model(
            settings.model,
            settings.device,
            settings.dtype,
            revision=settings.revision,
            variant=settings.variant,
            base=settings.base,
            offload=settings.offload,
            tiling=settings.tiling,
            compiled=settings.compile,
        )


def _do(
    batch: Sequence[Row],
    task: Task,
    keep: Keep,
    model: "Model",
    settings: Settings,
    place: str,
    quiet: bool,
    earlier: Earlier | None,
) -> list[Row]:
    import torch

    sources = [row["input"] for row in batch]
    torch.manual_seed(settings.seed)  # for each batch anew: its results don't hang on what was done before
    with progress_bar(f"{place} {sources[0].name}", quiet) as on_progress:
        results = task(sources, model, settings, on_progress)
    return [_keep(row, result, keep, earlier) for row, result in zip(batch, results, strict=True)]


def _keep(row: Row, result: Any, keep: Keep, earlier: Earlier | None) -> Row:
    source, files = (
        row["input"],
        {name: path for name, path in row.items() if name not in ("input", "resumed", "error")},
    )
    try:
        if isinstance(result, InvreconError):
            raise result
        if earlier:
            earlier.note(source, files.values(), None)
        figures = keep(result, files)
        if earlier:
            earlier.note(source, files.values(), figures)
        row = row | figures
    except (UsageError, ModelError):
        raise  # no input can be done with these
    except InvreconError as error:
        return failure(source, error)
    return _warned(row)


def _warned(row: Row) -> Row:
    if row.get("advice"):
        say(f"warning: {row['input']}: {row['advice']}")
    return row


def failure(source: Path, error: InvreconError | OSError) -> Row:
    """Says on stderr why an input failed, and returns its row."""
    if isinstance(error, OSError):
        error = InputError(f"can't be used ({error.strerror}); check its name and permissions")
    name, message = printable(source), printable(error)
    message = message if message.startswith(name + ":") else f"{name}: {message}"
    say(message)
    return {"input": source, "error": message}


def exit_code(rows: Sequence[dict[str, Any]], min_psnr: float | None = None) -> int:
    """What the program ends with. Results below `min_psnr` dB are named; those without a photo to compare with pass."""
    known = [row for row in rows if row.get("psnr") is not None]
    short = [row for row in known if min_psnr is not None and not row["psnr"] >= min_psnr]
    for row in short:
        say(f"{row['input']}: PSNR {row['psnr']:.2f} dB falls short of --min-psnr {min_psnr:g}")
    return 1 if any(row["error"] for row in rows) else 3 if short else 0
