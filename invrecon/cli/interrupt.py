"""Ctrl-C: the program ends at once, with one line and exit code 130, whatever it is in the midst of."""

import atexit
import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from invrecon.muted import stderr_descriptor
from invrecon.writing import remove_unfinished

EXIT_CODE = 130
_LINE = b"invrecon: interrupted\n"
_CLEAR = b"\r\x1b[2K\x1b[?25h"  # of a terminal: takes back a progress bar, and shows the cursor that it hid


def end_on_interrupt() -> None:
    """Lets SIGINT end this process.

    No exception is raised, since libraries swallow it: in imports, in callbacks, in `except:`. Results are
    published whole by `invrecon.writing`, so that only what isn't finished is lost. A SIGINT that the parent
    process ignores stays ignored.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _end)


def leave(code: str | int | None) -> NoReturn:
    """Ends this process as `sys.exit(code)` does, but for the interpreter's own end: it gives signals back to
    the system, so that Ctrl-C in that moment would kill the process without a word.
    """
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # its reader has left, or it is closed
            stream.flush()
    os._exit(code or 0)


def _end(signum: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        remove_unfinished()
        with suppress(OSError):
            stderr = stderr_descriptor()
            os.write(stderr, _CLEAR + _LINE if os.isatty(stderr) else _LINE)
    finally:
        os._exit(EXIT_CODE)
