"""Memory on disk: one JSON object a line, so that a killed run goes on where it stopped."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class Journal:
    """Rows in a file, each under a key; a last line that was cut short is dropped.

    Args:
        path: made as needed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Row] = {}
        self._asked: dict[str, None] = {}  # in order
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            os.truncate(path, len(whole.encode()))
        for line in whole.splitlines():
            row = json.loads(line)
            self.rows[row["key"]] = row

    def __contains__(self, key: str) -> bool:
        self._asked[key] = None
        return key in self.rows

    @property
    def asked(self) -> list[Row]:
        """The rows that were looked for: those of this run, whatever else the file holds from others."""
        return [self.rows[key] for key in self._asked if key in self.rows]

    def add(self, key: str, row: Row) -> None:
        """Appends a row and waits until it is on the disk."""
        self.rows[key] = {"key": key} | row
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self.rows[key], allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())


def key(*parts: object) -> str:
    """A short name for a file or row, made of all that it depends on."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()[:16]
