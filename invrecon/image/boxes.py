"""The boxes of JPEG 2000 and JPEG XL files (ISO/IEC 15444-1, annex I)."""

import struct
from collections.abc import Iterator
from typing import BinaryIO

_MOST = 1000  # boxes that are looked at
_FAR = 2**62  # beyond the end of every file


def boxes(file: BinaryIO, end: int = _FAR) -> Iterator[tuple[bytes, int]]:
    """Each box from here to `end`: its kind, and where its data end. The file stands where they begin."""
    for _ in range(_MOST):
        start = file.tell()
        head = file.read(8)
        if start >= end or len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
        following = min(start + length, _FAR) if length else _FAR  # 0 is up to the file's end
        if following < file.tell():
            return
        yield kind, following
        file.seek(following)


def profile_of_jp2(file: BinaryIO) -> bytes | None:
    """The ICC profile in the header of a JPEG 2000 file, which Pillow leaves out."""
    for kind, end in boxes(file):
        if kind != b"jp2h":
            continue
        for inner, inner_end in boxes(file, end):
            if inner == b"colr" and file.read(3)[:1] == b"\2":  # the method: an ICC profile
                return file.read(min(inner_end - file.tell(), 2**26))
    return None
