"""What can go wrong, as sentences for a person. Every message names the cause and, where there is one, the
cure.
"""


class InvreconError(Exception):
    """Base of all errors that invrecon raises on purpose; the text is one line, fit to be printed."""


class InputError(InvreconError):
    """A photo or seed file that can't be used. Other inputs of the same run are still done."""


class ModelError(InvreconError):
    """A checkpoint that can't be loaded or can't be inverted."""


class UsageError(InvreconError):
    """Settings that contradict each other or lie outside their range."""


class WorkerError(InvreconError):
    """A process that does the work ends again and again, whatever it is given."""


def printable(text: object) -> str:
    """Text on one line, its control characters escaped; for names of files in messages."""
    told = str(text)
    if told.isprintable():
        return told
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in told)


def sentence(error: BaseException) -> str:
    """What a person is told of an error, on one line."""
    if isinstance(error, InvreconError):
        return printable(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    kind = type(error).__name__
    return printable(f"internal error: {kind}: {error}; set INVRECON_DEBUG=1 for the traceback")
