"""An input: a local file, a remote one, or a member of a tar."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from invrecon.cluster.remote import fetch, is_remote
from invrecon.errors import InputError


@dataclass(frozen=True)
class Source:
    """An input of a run.

    Args:
        address: what is printed of it: a path as it was given, an address, or a tar's with its member's name.
        name: its path below the folder that was given, or as it was given; with "/" between folders. Shards,
            captions, --keep-tree and the journal know it by that.
        found: whether it was found in a folder, a tar or below an address, rather than named itself.
        prompt: its caption; None where it has none.
        size, stamp: bytes, and what changes when it is changed: an ETag, or the time in nanoseconds. -1 and
            "" where the file can't be seen; an error tells so later.
        archive: the path or address of the tar that it lies in, from byte `offset` on.
        problem: why it can't be used, where that is known already.
        base: the folder that a path is relative to; "" for the current one. Workers elsewhere have another.
    """

    address: str
    name: str
    found: bool = False
    prompt: str | None = None
    size: int = -1
    stamp: str = ""
    archive: str = ""
    offset: int | None = None
    problem: str = ""
    base: str = ""

    @property
    def path(self) -> Path | None:
        """Its file, where it is a local one of its own."""
        return Path(self.base, self.address) if self.is_file else None

    @property
    def is_file(self) -> bool:
        """Whether it is a local file of its own."""
        return not self.archive and not is_remote(self.address)

    @contextmanager
    def local(self) -> Iterator[Path]:
        """A local file with its bytes, for the time of a block.

        Raises:
            InputError: it can't be fetched.
        """
        if self.path:
            yield self.path
            return
        with TemporaryDirectory(prefix="invrecon-") as folder:
            copy = Path(folder) / (PurePosixPath(self.name).name or "photo")
            remote = is_remote(self.archive or self.address)
            base = "" if remote else self.base
            fetch(os.path.join(base, self.archive or self.address), copy, self.offset, self.size)
            yield copy

    def in_shard(self, index: int, count: int) -> bool:
        """Whether it belongs to a shard, which the SHA-256 of its name decides."""
        digest = hashlib.sha256(os.fsencode(self.name)).digest()
        return int.from_bytes(digest, "big") % count == index


def name_of(address: str, root: str = "") -> str:
    """The name of a local file: its path below `root`; else as it is given where that lies below the current
    folder, and without its anchor where it is absolute.
    """
    path = os.path.relpath(address, root) if root else os.path.normpath(address)
    if path.startswith("..") and not root:
        path = os.path.abspath(path)
    return Path(path).as_posix().removeprefix(Path(path).anchor.replace(os.sep, "/"))


def check_name(name: str) -> None:
    """Raises InputError where a name would lead out of the folder for results."""
    if name.startswith("/") or ".." in name.split("/"):
        raise InputError("has a name that leads out of its folder; rename it")


def sha256_of(path: Path) -> str:
    """Of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
