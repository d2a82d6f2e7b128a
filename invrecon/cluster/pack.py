"""Results in tars, as WebDataset reads them, in the place of files.

A tar is hidden while it grows, `.NAME.tar.part`, and takes its name when it is full or the run ends. Each
result ends with its NAME.json: where a writer was killed, the next run keeps all results that are whole.
"""

import io
import json
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp
from typing import Any

from invrecon.cluster.store import Names, Store
from invrecon.errors import InvreconError, printable
from invrecon.jsonable import jsonable

MAX_BYTES = 500 << 20  # of a tar that takes no more
_PART = ".part"


@dataclass
class Pack:
    """The tars that this process writes.

    Args:
        writer: part of their names.
    """

    store: Store
    writer: str = ""
    max_bytes: int = MAX_BYTES
    _own: str = field(default_factory=lambda: os.urandom(4).hex())
    _number: int = 0
    _file: Any = None
    _folder: str = ""

    @property
    def name(self) -> str:
        """Of the tar that is being filled."""
        return "-".join(filter(None, ["invrecon", self.writer, self._own, f"{self._number:06d}"])) + ".tar"

    def add(self, files: Mapping[str, Path], note: str, figures: Mapping[str, Any]) -> str:
        """Adds a result and its figures, and returns the tar's name.

        Args:
            files: by their names in the tar.
            note: the name of the figures there, which ends in .json.

        Raises:
            InvreconError: the disk doesn't take it.
        """
        name = self.name
        members = [(one, path.read_bytes()) for one, path in files.items()]
        members.append((note, json.dumps(jsonable(figures), allow_nan=False).encode()))
        try:
            if self._file is None:
                self._file = self._open()
            self._file.write(b"".join(_entry(*member) for member in members))
            self._file.flush()
            os.fsync(self._file.fileno())
            if self._file.tell() >= self.max_bytes:
                self.close()
        except OSError as error:
            raise InvreconError(f"{name}: can't be written ({error.strerror}); free some space") from error
        return name

    def close(self) -> None:
        """Gives the tar its name."""
        if self._file is None:
            return
        self._file.write(bytes(2 * tarfile.BLOCKSIZE))
        self._file.flush()
        os.fsync(self._file.fileno())
        if self.store.is_remote:
            self.store.upload(self._part, self.name)
            self._part.unlink()
        else:
            os.replace(self._part, Path(self.store.folder, self.name))
        self._file.close()
        self._file, self._number = None, self._number + 1

    @property
    def _part(self) -> Path:
        return Path(self._folder or self.store.folder, f".{self.name}{_PART}")

    def _open(self) -> Any:
        if self.store.is_remote and not self._folder:
            self._folder = mkdtemp(prefix="invrecon-")
        file = self._part.open("xb")
        _lock(file)
        return file


def salvage(store: Store, names: Names) -> list[str]:
    """Gives tars that killed writers left their names, without what isn't whole; returns the names.

    Args:
        names: of the store's files.
    """
    saved = []
    for part in sorted(
        name for name in names.top() if name.startswith(".invrecon-") and name.endswith(_PART)
    ):
        name = part.removeprefix(".").removesuffix(_PART)
        if store.is_remote or name in names:
            continue
        path = Path(store.folder, part)
        try:
            with path.open("r+b") as file:
                if not _lock(file):
                    continue  # its writer lives
                end = _whole_end(file)
                file.truncate(end)
                file.seek(end)
                file.write(bytes(2 * tarfile.BLOCKSIZE))
                os.fsync(file.fileno())
                os.replace(path, Path(store.folder, name))
        except FileNotFoundError:
            continue  # another run was quicker
        except OSError as error:
            raise InvreconError(f"{printable(path)}: can't be mended ({error.strerror})") from error
        saved.append(name)
    return saved


def _entry(name: str, content: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o644
    head = info.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")
    return head + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def _whole_end(file: io.BufferedRandom) -> int:
    """Where the last result ends that has its NAME.json."""
    size, end = os.fstat(file.fileno()).st_size, 0
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                after = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                if PurePosixPath(member.name).suffix == ".json" and after <= size:
                    end = after
    except (tarfile.TarError, EOFError):
        pass  # cut short
    return end


def _lock(file: Any) -> bool:
    """Marks a tar as being written by this process; False where another one does."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
