"""What is done: notes beside the results, one JSON object a line, written by every run and worker of its own
and read together.
"""

import hashlib
import json
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from invrecon.cluster.source import Source, sha256_of
from invrecon.cluster.store import Names, Store
from invrecon.errors import InvreconError, UsageError, printable
from invrecon.jsonable import jsonable
from invrecon.models import model_contents
from invrecon.settings import Checkpoint, Hardware, Settings, settings_of

Note = dict[str, Any]

PREFIX, ENDING = ".invrecon", ".jsonl"
_ROWS_A_FILE = 1000  # of notes at an address, where a file is written anew for each note

_WITHOUT_EFFECT = set(settings_of(Hardware)) - {"dtype", "tiling"}
"""Settings that change how soon a result comes, and the result by rounding alone: device, offload, batch size
and compilation.
"""


def is_notes(name: str) -> bool:
    """Whether a file of that name holds notes."""
    return name.startswith(PREFIX) and name.endswith(ENDING)


def read_notes(store: Store, names: Names) -> dict[str, Note]:
    """The note of each key that counts, from all files of notes.

    Args:
        names: of the store's files.

    Raises:
        UsageError: a file is something else.
    """
    notes: dict[str, Note] = {}
    for name, content in store.read(sorted(filter(is_notes, names.top()))):
        try:
            for note in _parsed(content):
                if _rank(note) >= _rank(notes.get(note["key"])):
                    notes[note["key"]] = note
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise UsageError(
                f"{printable(store.place(name))}: isn't what --resume left there; "
                "delete it, and results with --force, to start anew"
            ) from error
    return notes


def count_begun(store: Store, key: str) -> int:
    """How many times an input was begun, by all that write notes into a store."""
    files = store.read(sorted(filter(is_notes, store.names().top())))
    notes = (note for _, content in files if key.encode() in content for note in _parsed(content))
    return sum(note["key"] == key and not ("figures" in note or "error" in note) for note in notes)


def count_deaths(store: Store, writer: str) -> dict[str, int]:
    """How many times each key was begun and not ended, in the notes of some writers.

    Args:
        writer: what the names of their files begin with.
    """
    counts: dict[str, int] = {}
    names = (name for name in store.names().top() if name.startswith(f"{PREFIX}-{writer}-"))
    for _, content in store.read(sorted(filter(is_notes, names))):
        for note in _parsed(content):
            ended = "figures" in note or "error" in note
            counts[note["key"]] = counts.get(note["key"], 0) + (-1 if ended else 1)
    return counts


def _parsed(content: bytes) -> list[Note]:
    """The notes of a file, whose last line may be cut short. As one document they share their names."""
    lines = content[: content.rfind(b"\n") + 1].splitlines()
    return json.loads(b"[" + b",".join(lines) + b"]")


def _rank(note: Note | None) -> tuple[bool, float]:
    """A later note counts, but for that of a begun input, which says less than any other."""
    return (bool(note and ("figures" in note or "error" in note)), note.get("at", 0.0) if note else -1.0)


class Notes:
    """What earlier runs with --resume left in a store.

    An input is known by its name, its prompt, the settings, the files that the model is loaded from, and the
    files it is written to. It is done if it has the size and stamp that it had then, or the same bytes.

    Args:
        names: of the store's files.
        verify: whether bytes are compared in any case.

    Raises:
        UsageError: the notes can't be read.
        ModelError: the model isn't there.
    """

    def __init__(
        self, store: Store, settings: Settings, more: Mapping[str, Any], names: Names, verify: bool = False
    ) -> None:
        self.names, self.verify = names, verify
        self.notes = read_notes(store, names)
        told = {name: value for name, value in asdict(settings).items() if name not in _WITHOUT_EFFECT}
        del told["prompt"]
        place = {name: getattr(settings, name) for name in settings_of(Checkpoint) if name != "model"}
        text = json.dumps([told, dict(more), model_contents(settings.model, **place)], sort_keys=True)
        self.common = hashlib.sha256(text.encode()).hexdigest()

    def key(self, source: Source, files: Collection[str], prompt: str) -> str:
        """What an input's notes are found by."""
        text = json.dumps([self.common, source.name, prompt, sorted(files)])
        return hashlib.sha256(text.encode()).hexdigest()

    def begun(self, key: str) -> bool:
        """Whether the files are an earlier run's own, and may be replaced."""
        return key in self.notes

    def figures(self, key: str, source: Source, files: Collection[str]) -> dict[str, Any] | None:
        """Those of an input that is done, and whose files are still there; else None."""
        note = self.notes.get(key, {})
        figures: dict[str, Any] | None = note.get("figures")
        if figures is None or not self._is_there(note, files) or note.get("size") != source.size:
            return None
        same = note.get("stamp") == source.stamp != ""
        if self.verify or not (same or source.archive):
            with source.local() as path:
                same = sha256_of(path) == note.get("sha256")
        return figures if same else None

    def _is_there(self, note: Note, files: Collection[str]) -> bool:
        return note["pack"] in self.names if note.get("pack") else all(name in self.names for name in files)


@dataclass
class Notebook:
    """Notes of this process. In a folder each is on the disk before `add` returns; at an address the last
    thousand are one file, written anew each time.

    Args:
        writer: part of the file's name; "" for the one that plain runs share.
    """

    store: Store
    writer: str = ""
    _lines: list[str] = field(default_factory=list)
    _files: int = 0
    _own: str = field(default_factory=lambda: os.urandom(4).hex())

    def add(self, notes: Sequence[Note]) -> None:
        """Adds notes, each under its "key".

        Raises:
            InvreconError: the disk doesn't take them.
        """
        lines = [json.dumps(jsonable(note | {"at": time.time()}), allow_nan=False) + "\n" for note in notes]
        if self.store.is_remote:
            self._upload(lines)
            return
        path = Path(self.store.folder, self._name(bool(self.writer)))
        try:
            with path.open("a", encoding="utf-8") as file:
                if not self._files and file.tell():
                    _drop_cut_line(path)
                self._files = 1
                file.write("".join(lines))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InvreconError(
                f"{printable(path)}: can't be written ({error.strerror}); free some space"
            ) from error

    def _name(self, own: bool) -> str:
        parts = [PREFIX, *filter(None, [self.writer]), *([self._own] if own else [])]
        number = f"-{self._files}" if self.store.is_remote else ""
        return "-".join(parts) + number + ENDING

    def _upload(self, lines: list[str]) -> None:
        if len(self._lines) >= _ROWS_A_FILE:
            self._lines, self._files = [], self._files + 1
        self._lines += lines
        self.store.write(self._name(True), "".join(self._lines).encode())


def _drop_cut_line(path: Path) -> None:
    """Removes a last line that an earlier run didn't finish."""
    content = path.read_bytes()
    os.truncate(path, content.rfind(b"\n") + 1)
