"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from invrecon.errors import InvreconError, printable


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a name beside `path` to write to, and renames it to `path` when the block ends well; else nothing is left.

    Folders above are made as needed.

    Raises:
        InvreconError: the disk doesn't take it.
    """
    partial = path.parent / f".{path.stem[:40]}.{os.getpid()}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        cause = printable(error.strerror or error)
        raise InvreconError(
            f"{printable(path)}: can't be written ({cause}); choose another place or free some space"
        ) from error
