"""Where results go: a folder, or an address of fsspec. Each file is there whole or not at all."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from invrecon.cluster.remote import cause, filesystem, is_remote
from invrecon.errors import InvreconError, UsageError, printable

_WHOLE_AT_ONCE = {"s3", "s3a", "gs", "gcs", "abfs", "az", "memory"}  # where an upload is seen when it ends


@dataclass(frozen=True)
class Store:
    """A folder for results, by path or by address.

    Args:
        out: as it was given.
        base: the folder that it is relative to; "" for the current one. Workers elsewhere have another.
    """

    out: str
    base: str = ""

    @property
    def folder(self) -> str:
        """The folder itself, where it isn't an address."""
        return os.path.join(self.base, self.out)

    @cached_property
    def is_remote(self) -> bool:
        return is_remote(self.out)

    def make(self) -> None:
        """Makes the folder. Raises UsageError where it can't be made or written to."""
        if self.is_remote:
            filesystem(self.out)
            return
        try:
            os.makedirs(self.folder, exist_ok=True)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"can't make the folder {self.out} ({reason}); choose another --out") from error
        if not os.access(self.folder, os.W_OK):
            raise UsageError(f"can't write into the folder {self.out}; choose another --out")

    def place(self, name: str) -> str:
        """Where a file of that name lies, as rows show it."""
        return self._prefix + name

    @cached_property
    def _prefix(self) -> str:
        if self.is_remote:
            return self.out.rstrip("/") + "/"
        folder = str(Path(self.out))
        return "" if folder == "." else os.path.join(folder, "")

    def names(self) -> "Names":
        """The files that are there now. Raises UsageError where an address can't be listed."""
        if not self.is_remote:
            return Names(self.folder)
        system, path = filesystem(self.out)
        system.invalidate_cache()
        try:
            found = self._asked(lambda: system.find(path))
        except InvreconError as error:
            raise UsageError(str(error)) from error
        return Names(self.out, {place.removeprefix(path).lstrip("/") for place in found})

    def read(self, names: list[str]) -> Iterator[tuple[str, bytes]]:
        """What files hold."""
        if self.is_remote:
            system, path = filesystem(self.out)
            wanted = {f"{path}/{name}": name for name in names}
            held = self._asked(lambda: system.cat(list(wanted))) if wanted else {}
            yield from ((wanted[place], content) for place, content in held.items())
        else:
            yield from ((name, Path(self.folder, name).read_bytes()) for name in names)

    @contextmanager
    def writing(self, files: Mapping[str, str], overwrite: bool) -> Iterator[dict[str, Path]]:
        """Local paths to write results to, by their fields. At the end of the block they are at their place.

        Args:
            files: their names, by field.
            overwrite: whether files that have come to be at an address may be replaced; writers see to that
                in a folder.

        Raises:
            InvreconError: they can't be written.
        """
        if not self.is_remote:
            yield {field: Path(self.folder, name) for field, name in files.items()}
            return
        with TemporaryDirectory(prefix="invrecon-") as folder:
            paths = {field: Path(folder, os.path.basename(name)) for field, name in files.items()}
            yield paths
            for name, path in {name: paths[field] for field, name in files.items()}.items():
                self.upload(path, name, overwrite)

    def upload(self, path: Path, name: str, overwrite: bool = True) -> None:
        """Copies a local file to an address, where it is seen when it is whole.

        Raises:
            InvreconError: it can't be written, or is there and isn't to be overwritten.
        """
        system, root = filesystem(self.out)
        target = f"{root}/{name}"
        protocols = {system.protocol} if isinstance(system.protocol, str) else set(system.protocol)
        whole = bool(protocols & _WHOLE_AT_ONCE)
        partial = target if whole else f"{root}/.{os.urandom(8).hex()}.tmp"
        system.invalidate_cache(os.path.dirname(target))
        if not overwrite and self._asked(lambda: system.exists(target)):
            raise InvreconError(
                f"{printable(self.place(name))} has come to be meanwhile, by another run perhaps, and is "
                "kept; overwrite it with --force or choose another --out"
            )

        def put() -> None:
            if not whole:
                system.makedirs(os.path.dirname(target), exist_ok=True)
            system.put_file(os.fspath(path), partial)
            if partial != target:
                system.mv(partial, target)

        self._asked(put)

    def write(self, name: str, content: bytes) -> None:
        """Writes a file at an address, whole. Raises InvreconError where it can't be written."""
        with TemporaryDirectory(prefix="invrecon-") as folder:
            path = Path(folder, "file")
            path.write_bytes(content)
            self.upload(path, name)

    def _asked(self, request: Any) -> Any:
        try:
            return request()
        except Exception as error:  # each file system has errors of its own
            raise InvreconError(
                f"{printable(self.out)}: can't be reached ({cause(error)}); check the address and its keys"
            ) from error


class Names:
    """Names of files that are there. A folder is listed when it is first asked about.

    Args:
        known: all of them, where they are known.
    """

    def __init__(self, out: str, known: set[str] | None = None) -> None:
        self.out, self.known = out, known
        self._folders: dict[str, set[str]] = {}

    def __contains__(self, name: str) -> bool:
        if self.known is not None:
            return name in self.known
        folder, _, file = name.rpartition("/")
        return file in self._in(folder)

    def top(self) -> set[str]:
        """Those that lie in no folder of their own."""
        return self._in("") if self.known is None else {name for name in self.known if "/" not in name}

    def _in(self, folder: str) -> set[str]:
        if folder not in self._folders:
            try:
                self._folders[folder] = set(os.listdir(os.path.join(self.out, folder)))
            except OSError:
                self._folders[folder] = set()
        return self._folders[folder]
