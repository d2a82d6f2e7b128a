"""What a run has to do: each input is done already, can't be done, or becomes a task."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from invrecon.cluster.checks import check_header, check_input
from invrecon.cluster.notes import Notes
from invrecon.cluster.remote import is_remote
from invrecon.cluster.source import Source, check_name
from invrecon.cluster.store import Names, Store
from invrecon.cluster.task import Job, Row, Task
from invrecon.cluster.worker import as_input_error, told
from invrecon.errors import InputError, InvreconError, UsageError
from invrecon.formats import is_seed_file, seed_dtype
from invrecon.settings import Settings


@dataclass
class Planner:
    """Plans a run.

    Args:
        names: of the files that are there.
        notes: of earlier runs; None where none count.
        force: whether files of others may be replaced.
        keep_tree: whether results lie in folders like those of the inputs.
        packed: whether results go into tars, where a name has one dot.
        part: the shard, I of N; None for all. Inputs of other shards have no rows, but their names count.
    """

    job: Job
    settings: Settings
    store: Store
    names: Names
    notes: Notes | None = None
    force: bool = False
    keep_tree: bool = False
    packed: bool = False
    part: tuple[int, int] | None = None
    tasks: list[Task] = field(default_factory=list)
    results: int = 0  # of other inputs, found among the inputs

    def plan(self, sources: Sequence[Source]) -> list[Row]:
        """A row for each input of the shard: its figures if it was done before, its error and the name that
        notes know it by, or what is known before it is done. Fills `tasks`, and counts `results`.
        """
        self._sources = sources
        named = [self._name_files(source) for source in sources]
        claims = Counter(name for files in named if isinstance(files, dict) for name in set(files.values()))
        names = Counter(source.name for source in sources)
        rows: list[Row] = []
        owners: dict[str, Source] = {}
        for source, files in zip(sources, named, strict=True):
            if source.found and not source.archive and self._name_in_store(source.address) in claims:
                self.results += 1
                continue
            if self.part and not source.in_shard(*self.part):
                if isinstance(files, dict) and any(claims[name] > 1 for name in files.values()):
                    self._claim_elsewhere(source, files, owners)
                continue
            row: Row = {"number": len(rows), "input": source.address, "error": None}
            try:
                if isinstance(files, InvreconError):
                    raise files
                planned = self._plan(len(rows), source, files, owners)
                planned |= row
                rows.append(planned)
            except (InvreconError, OSError) as error:
                known = source.name if names[source.name] == 1 else source.address
                rows.append(row | {"error": told(source.address, as_input_error(error)), "name": known})
            else:
                owners |= dict.fromkeys(files.values(), source)
        return rows

    def _claim_elsewhere(self, source: Source, files: dict[str, str], owners: dict[str, Source]) -> None:
        """Keeps names for an input of another shard that can be read."""
        with suppress(InvreconError, OSError):
            self._check_file(source)
            self._claim(source, files, owners)
            self._check_prompt(source)
            owners |= dict.fromkeys(files.values(), source)

    def _name_files(self, source: Source) -> dict[str, str] | InvreconError:
        try:
            if source.problem:
                raise InputError(source.problem)
            folder, _, name = source.name.rpartition("/")
            if self.keep_tree:
                check_name(source.name)
            path, below = Path(name), f"{folder}/" if self.keep_tree and folder else ""
            if self.packed and not is_seed_file(path):
                path = Path(path.stem.replace(".", "_") + path.suffix)
            return {field: f"{below}{one}" for field, one in self.job.name_files(path).items()}
        except (UsageError, InputError) as error:
            return error

    def _plan(self, number: int, source: Source, files: dict[str, str], owners: dict[str, Source]) -> Row:
        """What is known of a row. Raises InputError or OSError where the input can't be done."""
        prompt = source.prompt if source.prompt is not None else self.settings.prompt
        key = self.notes.key(source, files.values(), prompt) if self.notes else ""
        figures = self.notes.figures(key, source, files.values()) if self.notes else None
        if figures is None:
            self._check_file(source)
        self._claim(source, files, owners)  # names are for those that can be read
        if figures is None:
            overwrite = self.force or bool(self.notes and self.notes.begun(key))
            self._check_free(files, overwrite)
            self._check_prompt(source)
            self.tasks.append(Task(number, source, files, prompt, self._dtype(source), overwrite, key))
        places = {field: self.store.place(name) for field, name in files.items()}
        row: Row = {} if figures is None else figures
        row |= places  # in place, since there may be very many
        row |= {"resumed": figures is not None, "files": list(places.values())}
        return row

    def _check_file(self, source: Source) -> None:
        if source.path is not None:
            check_input(source.path)
            check_header(source.path)

    def _claim(self, source: Source, files: dict[str, str], owners: dict[str, Source]) -> None:
        """Raises InputError where another input has the same results."""
        for name in files.values():
            if owner := owners.get(name):
                apart = os.path.dirname(source.name) != os.path.dirname(owner.name)
                cure = "rename it, take --keep-tree," if apart and not self.keep_tree else "rename it"
                raise InputError(
                    f"would write {self.store.place(name)}, as {owner.address} does; "
                    f"{cure} or give it another --out in a run of its own"
                )

    def _check_free(self, files: dict[str, str], overwrite: bool) -> None:
        """Raises InputError where a file is there and may not be replaced, or is an input."""
        for name in files.values():
            if name not in self.names or self.packed:
                continue
            place = self.store.place(name)
            if not overwrite:
                raise InputError(f"{place} exists; overwrite it with --force or choose another --out")
            if not self.store.is_remote and _identity(Path(place)) in self._inputs:
                raise InputError(f"would overwrite {place}, an input of this run; choose another --out")

    def _check_prompt(self, source: Source) -> None:
        if source.prompt is not None:
            try:
                replace(self.settings, prompt=source.prompt)
            except UsageError as error:
                raise InputError(f"its caption can't be used: {error}") from error

    def _dtype(self, source: Source) -> str:
        """In what precision the network runs for an input: a seed file's own, unless the settings say
        one.
        """
        own = None
        if self.settings.dtype == "auto" and is_seed_file(Path(source.name)):
            with source.local() as path:
                own = seed_dtype(path)
        return own or self.settings.dtype

    def _name_in_store(self, address: str) -> str:
        """A file's name in the store, or its path or address where it lies elsewhere."""
        if is_remote(address):
            return address.removeprefix(self.store.place(""))
        absolute = os.path.abspath(address)
        return absolute.removeprefix(self._root) if absolute.startswith(self._root) else absolute

    @cached_property
    def _root(self) -> str:
        return os.path.join(os.path.abspath(self.store.out), "")

    @cached_property
    def _inputs(self) -> set[tuple[int, int] | None]:
        """The files that are inputs."""
        return {_identity(source.path) for source in self._sources if source.path} - {None}


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def failures(rows: Iterable[Row]) -> list[Row]:
    """The rows of inputs that failed."""
    return [row for row in rows if row["error"] is not None]
