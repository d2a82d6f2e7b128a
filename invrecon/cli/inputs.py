"""What is checked of inputs and results before a model loads."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from invrecon.cli import options
from invrecon.cli.boundary import say
from invrecon.cli.results import Row
from invrecon.errors import InputError, InvreconError, UsageError, printable
from invrecon.formats import is_seed_file


@dataclass(frozen=True)
class Target:
    """Where results go, and whether those that are there may be replaced."""

    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the results, made as needed.")
    ] = Path(".")
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite results that exist.")] = False


@dataclass(frozen=True)
class PictureTarget(Target):
    """Of a command whose results are pictures."""

    metadata: options.Metadata = True


def make_folder(out: Path) -> None:
    """Makes the folder for results. Raises UsageError where it can't be made or written to."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"can't make the folder {out} ({error.strerror}); choose another --out") from error
    if not os.access(out, os.W_OK):
        raise UsageError(f"can't write into the folder {out}; choose another --out")


def check_output(path: Path, inputs: Sequence[Path], owners: dict[Path, Path], force: bool) -> None:
    """Raises InputError where another input of `owners` claims `path`, or it exists, or is an input."""
    if path in owners:
        raise InputError(
            f"would write {path}, as {owners[path]} does; "
            "rename it or give it another --out in a run of its own"
        )
    try:
        path.lstat()
    except FileNotFoundError:
        return
    if not force:
        raise InputError(f"{path} exists; overwrite it with --force or choose another --out")
    if any(source.exists() and source.samefile(path) for source in inputs):
        raise InputError(f"would overwrite {path}, an input of this run; choose another --out")


def pair_photos(inputs: Sequence[Path], photos: Collection[Path], needed: bool) -> dict[Path, Path]:
    """The photo that each seed file among the inputs was made from, as --photo gives them in order.

    Raises:
        UsageError: there are fewer or more photos than seed files; none at all is fine unless `needed`.
    """
    seeds = [source for source in inputs if is_seed_file(source)]
    if len(photos) != len(seeds) and (photos or needed):
        raise UsageError(f"{len(seeds)} seed files need as many --photo, not {len(photos)}")
    return dict(zip(seeds, photos, strict=False))


def failure(source: Path, error: InvreconError | OSError) -> Row:
    """Says on stderr why an input failed, and returns its row."""
    if isinstance(error, OSError):
        error = InputError(f"can't be used ({error.strerror}); check its name and permissions")
    name, message = printable(source), printable(error)
    message = message if message.startswith(name + ":") else f"{name}: {message}"
    say(message)
    return {"input": source, "error": message}
