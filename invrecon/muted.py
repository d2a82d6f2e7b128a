"""The process's stderr, taken from C libraries that write to it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_LOCK = (
    Lock()
)  # of file descriptor 2: of two that save and restore it at once, one would restore the other's silence


@contextmanager
def muted() -> Iterator[None]:
    """Sends all that is written to file descriptor 2 meanwhile nowhere, by whatever thread. Does nothing where it is closed."""
    with _LOCK:
        try:
            kept = os.dup(2)
        except OSError:
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(nowhere)
            os.close(kept)
