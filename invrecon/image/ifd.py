"""The directories of tags (IFD) of a TIFF file, as far as they tell which of its pictures is which."""

from __future__ import annotations

import struct
from typing import BinaryIO

Tags = dict[int, tuple[int, ...]]
"""Numbers by tag; texts are the codes of their bytes."""

_TYPES = {1: "B", 2: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # other types are left out
_MOST = 100  # directories that are read, and values of a tag
_MOST_TAGS = 1000  # of a directory; one with more is taken for damaged


class Directories:
    """Reads directories. Never raises: what is damaged is left out.

    Args:
        file: a TIFF or BigTIFF file.
        head: its first 16 bytes or more.
    """

    def __init__(self, file: BinaryIO, head: bytes) -> None:
        self.file = file
        self.order = "<" if head[:2] == b"II" else ">"
        self.big = b"+" in head[2:4]  # 43, the mark of BigTIFF
        self.pointer = "Q" if self.big else "I"
        start = head[8:16] if self.big else head[4:8]
        self.first = struct.unpack(self.order + self.pointer, start)[0] if len(start) in (4, 8) else 0

    def chain(self) -> list[Tags]:
        """The directories of the pages, the first hundred."""
        pages: list[Tags] = []
        seen, offset = {0}, self.first
        while offset not in seen and len(pages) < _MOST:
            seen.add(offset)
            tags, offset = self.read(offset)
            pages.append(tags)
        return pages

    def read(self, offset: int) -> tuple[Tags, int]:
        """The tags of the directory at `offset`, and where the next one is, 0 after the last."""
        tags: Tags = {}
        try:
            self.file.seek(offset)
            (count,) = self._unpack("Q" if self.big else "H")
            if count > _MOST_TAGS:
                return tags, 0
            entries = [self._unpack("HH" + 2 * self.pointer) for _ in range(count)]
            (following,) = self._unpack(self.pointer)
            width = struct.calcsize(self.pointer)
            for number, (tag, kind, length, value) in enumerate(entries):
                size = struct.calcsize(_TYPES.get(kind, "")) * min(length, _MOST)
                if size:
                    entry = offset + (8 if self.big else 2) + number * (4 + 2 * width)
                    self.file.seek(entry + 4 + width if size <= width else value)
                    tags[tag] = self._unpack(f"{min(length, _MOST)}{_TYPES[kind]}")
        except (OSError, OverflowError, struct.error):
            return tags, 0
        return tags, following

    def _unpack(self, form: str) -> tuple[int, ...]:
        form = self.order + form
        return struct.unpack(form, self.file.read(struct.calcsize(form)))
