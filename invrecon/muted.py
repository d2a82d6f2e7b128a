"""The process's stdout and stderr, kept free of what libraries write to them."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, RLock
from typing import TextIO

# Of file descriptor 2: of two that save and restore it at once, one would restore the other's silence.
_LOCK = Lock()
_kept: list[int] = []  # the descriptor of stderr while it is muted
_results: list[TextIO] = []  # stdout while it is kept for results


@contextmanager
def muted() -> Iterator[None]:
    """Sends what any thread writes to file descriptor 2 nowhere. Does nothing where that is closed."""
    with _LOCK:
        try:
            kept = os.dup(2)
        except OSError:
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            _kept.append(kept)
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            _kept.clear()
            os.close(nowhere)
            os.close(kept)


def stderr_descriptor() -> int:
    """The file descriptor of the process's stderr, muted or not."""
    return _kept[0] if _kept else 2


@contextmanager
def stdout_for_results() -> Iterator[None]:
    """Sends what any thread prints to stderr, but for what is written to `stdout`."""
    kept, others = sys.stdout, sys.stderr
    _results.append(kept)
    sys.stdout = others
    try:
        yield
    finally:
        _results.remove(kept)
        if sys.stdout is others:  # else it was closed meanwhile
            sys.stdout = kept


def stdout() -> TextIO:
    """Where results are printed."""
    return _results[-1] if _results and sys.stdout is sys.stderr else sys.stdout


def leave_no_semaphore() -> None:
    """Gives tqdm's bars a lock of this process. Their own is a semaphore of the system: a process that Ctrl-C
    ends would leave it behind, with a warning on stderr.
    """
    from tqdm import tqdm

    tqdm.set_lock(RLock())
