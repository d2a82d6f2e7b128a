"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from invrecon.errors import InvreconError, printable

_unfinished: set[Path] = set()  # of this process, for `remove_unfinished`


@contextmanager
def replacing(path: Path, overwrite: bool = True) -> Iterator[Path]:
    """Gives a name beside `path` to write to, which becomes `path` when the block ends well, else is removed.

    Folders above are made as needed.

    Args:
        overwrite: whether a file that is there is replaced; else of two runs the first one's file stays.

    Raises:
        InvreconError: the disk doesn't take it, or the file is there by now and isn't to be overwritten.
    """
    partial = path.parent / f".{path.stem[:40]}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
    _unfinished.add(partial)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            if overwrite:
                os.replace(partial, path)
            else:
                _publish(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        cause = printable(error.strerror or error)
        raise InvreconError(
            f"{printable(path)}: can't be written ({cause}); choose another place or free some space"
        ) from error
    finally:
        _unfinished.discard(partial)


def remove_unfinished() -> None:
    """Removes what blocks of `replacing` have begun to write, for a process that ends within them."""
    for path in tuple(_unfinished):
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _publish(partial: Path, path: Path) -> None:
    """Gives a file its name unless that is taken, in which case it raises InvreconError."""
    try:
        try:
            os.link(partial, path)
        except FileExistsError:
            raise
        except OSError:
            _publish_without_links(partial, path)
    except FileExistsError as error:
        raise InvreconError(
            f"{printable(path)} has come to be meanwhile, by another run perhaps, and is kept; "
            "overwrite it with --force or choose another --out"
        ) from error


def _publish_without_links(partial: Path, path: Path) -> None:
    """Takes the name with an empty file, which only one process can do, and replaces that."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    _unfinished.add(path)
    try:
        os.replace(partial, path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        _unfinished.discard(path)
