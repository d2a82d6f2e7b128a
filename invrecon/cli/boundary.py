"""The one place where exceptions turn into a line on stderr and an exit code."""

import os
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import typer

from invrecon.errors import InvreconError, ModelError, UsageError, WorkerError, printable, sentence

P = ParamSpec("P")

# The first kind that fits counts.
_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (KeyboardInterrupt, 130),
    (UsageError, 2),
    (ModelError, 2),
    (WorkerError, 4),
    (InvreconError, 1),
    (Exception, 1),
)


def guarded(command: Callable[P, int]) -> Callable[P, None]:
    """`command`, which returns its exit code, with every exception caught and told in one line."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = command(*args, **kwargs)
        except BrokenPipeError:
            raise  # the reader of stdout has left; Typer ends the program silently
        except (Exception, KeyboardInterrupt) as error:
            kind, code = next(row for row in _CODES if isinstance(error, row[0]))
            if kind is Exception and os.environ.get("INVRECON_DEBUG") == "1":
                raise
            say(sentence(error))
        raise typer.Exit(code)

    return run


def say(text: str) -> None:
    """One line on stderr, however odd the text."""
    typer.echo(f"invrecon: {printable(text)}", err=True)
