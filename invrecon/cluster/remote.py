"""Addresses such as s3://bucket/photos, by fsspec; a plain path is none."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from invrecon.errors import InputError, UsageError, printable

T = TypeVar("T")
INSTALL = "pip install 'invrecon[remote]'"


def is_remote(address: object) -> bool:
    """Whether it is an address of fsspec, such as s3://bucket/photo.jpg."""
    return bool(re.match(r"[A-Za-z][A-Za-z0-9+.\-]+://", str(address)))


def filesystem(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it.

    Raises:
        UsageError: what it takes isn't installed, or it can't be reached.
    """
    try:
        import fsspec
    except ImportError as error:
        raise UsageError(f"{printable(address)}: addresses need fsspec: {INSTALL}") from error
    try:
        system, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise UsageError(f"{printable(address)}: {printable(error)}: {INSTALL}") from error
    except Exception as error:  # each file system has errors of its own
        raise UsageError(f"{printable(address)}: can't be reached ({cause(error)})") from error
    return system, path.rstrip("/")


def cause(error: Exception) -> str:
    """What went wrong, on one line."""
    return printable(str(error).strip() or type(error).__name__)[:300]


def explained(address: str, work: Callable[[], T]) -> T:
    """The result of a request. Raises InputError with its address where it fails."""
    try:
        return work()
    except FileNotFoundError as error:
        raise InputError("No such file; check its address") from error
    except Exception as error:  # each file system has errors of its own
        raise InputError(f"{printable(address)}: can't be reached ({cause(error)})") from error


def stamp_of(details: dict[str, Any]) -> str:
    """What tells one version of a remote file from another: its ETag, or when it was changed."""
    found = [
        details[name]
        for name in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "created")
        if details.get(name)
    ]
    return str(found[0]).strip('"') if found else ""


def fetch(address: str, target: Path, offset: int | None = None, size: int = 0) -> None:
    """Copies a file, or `size` bytes of it from `offset` on, into a local file.

    Raises:
        InputError: it isn't there, or can't be read.
    """
    if not is_remote(address):
        with open(address, "rb") as file:
            file.seek(offset or 0)
            target.write_bytes(file.read(size))
        return
    system, path = filesystem(address)
    if offset is None:
        explained(address, lambda: system.get_file(path, os.fspath(target)))
    else:
        target.write_bytes(explained(address, lambda: system.cat_file(path, start=offset, end=offset + size)))
