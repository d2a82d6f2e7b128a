"""From what a user names to inputs: files, patterns, folders, lists, addresses and tars."""

import glob
import os
import re
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from invrecon.cluster.captions import Captions, read_local
from invrecon.cluster.remote import cause, explained, filesystem, is_remote, stamp_of
from invrecon.cluster.source import Source, name_of
from invrecon.errors import InputError, UsageError, printable

_PHOTOS = re.compile(
    r"\.(jpg|jpeg|jpe|jfif|png|heic|heif|hif|avif|webp|tif|tiff|jp2|j2k|jpx|jxl|bmp|gif|ppm|pgm|pbm|pnm|tga)",
    re.IGNORECASE,
)
_OTHERS = re.compile(r"\.(txt|json|jsonl|csv|toml|md|html|py|safetensors|parquet|tar|npy)", re.IGNORECASE)
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


@dataclass
class Lister:
    """Finds the inputs of a run.

    Args:
        recursive: whether folders are entered.
        captions: of the photos.
        passed_over: how many files in folders and tars aren't photos.
    """

    recursive: bool = False
    captions: Captions = field(default_factory=Captions)
    passed_over: int = 0

    def sources(self, named: Iterable[str]) -> Iterator[Source]:
        """The inputs, in the order in which they are named, and by name in folders.

        Raises:
            UsageError: captions or addresses can't be read.
        """
        remote = _RemoteFiles()
        for address in named:
            try:
                yield from self._of(address, remote)
            except InputError as error:
                yield Source(address, name_of(address), problem=str(error))

    def _of(self, address: str, remote: "_RemoteFiles") -> Iterator[Source]:
        if address.lower().endswith(_COMPRESSED):
            raise InputError("is a compressed tar, whose members can't be read alone; decompress it first")
        if is_remote(address):
            yield from self._remote(address, remote)
        elif address.lower().endswith(".tar") and os.path.isfile(address):
            with open(address, "rb") as file:
                yield from self._in_tar(address, name_of(address), _details(os.stat(address)), file)
        elif self.recursive and os.path.isdir(address):
            for path, status in _walk(address):
                if self._is_photo(path):
                    details = _details(status) if status else (-1, "")
                    found = Source(path, _name_below(path, address), True, None, *details)
                    yield self.captions.give(found, read_local)
        elif glob.has_magic(address) and not os.path.lexists(address):
            matches = sorted(glob.glob(address, recursive=True))
            for match in matches or [address]:
                yield from self._of(match, remote) if match != address else [self._file(match)]
        else:
            yield self._file(address)

    def _file(self, address: str) -> Source:
        try:
            details = _details(os.stat(address))
        except (OSError, ValueError):
            details = (-1, "")
        return self.captions.give(Source(address, name_of(address), False, None, *details), read_local)

    def _is_photo(self, path: str) -> bool:
        """Whether a file in a folder is taken: by its ending, or by its first bytes where that says
        nothing.
        """
        if is_photo_name(path):
            return True
        if os.path.isfile(path) and not _OTHERS.fullmatch(os.path.splitext(path)[1]):
            from invrecon.image import is_photo_file

            if is_photo_file(Path(path)):
                return True
        self.passed_over += 1
        return False

    def _remote(self, address: str, remote: "_RemoteFiles") -> Iterator[Source]:
        system, path = filesystem(address)
        start = address[: address.rindex(path)] if path in address else system.unstrip_protocol("")
        if glob.has_magic(path):
            found = explained(address, lambda: system.glob(path, detail=True))
        elif self.recursive and not path.lower().endswith(".tar"):
            found = explained(address, lambda: system.find(path, detail=True))
        else:
            found = {path: remote.details(address, system, path)}
        if not found:
            raise InputError("there is nothing at this address; check it")
        root = "" if list(found) == [path] or glob.has_magic(path) else path
        read = _reader(system, start, found if root else None, self.captions.sidecars)
        for place, details in sorted(found.items()):
            name = place.removeprefix(root).lstrip("/")
            if root and _is_hidden(name):
                continue
            if root and not is_photo_name(place):
                self.passed_over += 1
            elif place.lower().endswith(".tar"):
                with system.open(place, "rb", block_size=1 << 20) as file:
                    known = int(details.get("size") or 0), stamp_of(details)
                    yield from self._in_tar(start + place, name, known, file)
            else:
                problem = "is a folder; take its photos with --recursive" * (details["type"] == "directory")
                known = int(details.get("size") or 0), stamp_of(details)
                one = Source(start + place, name, bool(root), None, *known, problem=problem)
                yield one if problem else self.captions.give(one, read)

    def _in_tar(self, address: str, name: str, details: tuple[int, str], file: Any) -> Iterator[Source]:
        stem, stamp = name[: -len(".tar")], f"{details[0]} {details[1]}"
        texts: dict[str, bytes] = {}
        photos: list[Source] = []
        for member, content in _members(file, self.captions.sidecars):
            inside = member.name.removeprefix("./")
            place, below = f"{address}/{inside}", f"{stem}/{inside}"
            if _is_hidden(inside):
                continue
            if is_photo_name(place):
                photos.append(
                    Source(place, below, True, None, member.size, stamp, address, member.offset_data)
                )
            elif content is not None:
                texts[place] = content
            else:
                self.passed_over += 1
        for photo in photos:
            yield self.captions.give(photo, texts.get)


def read_list(place: str) -> list[str]:
    """The inputs of a list, one a line; "-" is standard input. Empty lines don't count, nor do Windows' line
    ends. Names may be any bytes, or the UTF-16 that PowerShell writes.

    Raises:
        UsageError: it can't be read.
    """
    try:
        data = sys.stdin.buffer.read() if place == "-" else Path(place).read_bytes()
    except (OSError, ValueError) as error:
        raise UsageError(f"can't read the list {printable(place)} ({error}); check --from") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", "replace")
    else:
        text = os.fsdecode(data.removeprefix(b"\xef\xbb\xbf"))
    return [line.removesuffix("\r") for line in text.split("\n") if line.strip()]


def is_photo_name(path: str) -> bool:
    """Whether a file's name ends as that of a photo."""
    return bool(_PHOTOS.fullmatch(os.path.splitext(path)[1]))


def _name_below(path: str, folder: str) -> str:
    """The path of a file below the folder that was given."""
    below = path[len(folder) :].lstrip(os.sep)
    return below.replace(os.sep, "/") if os.sep != "/" else below


def _is_hidden(name: str) -> bool:
    """Whether a path below an address, or in a tar, is that of a hidden file."""
    return any(part.startswith(".") and part.strip(".") for part in name.split("/"))


def _details(status: os.stat_result) -> tuple[int, str]:
    return status.st_size, str(status.st_mtime_ns)


def _walk(folder: str) -> Iterator[tuple[str, os.stat_result | None]]:
    """The files below a folder, by name, and None for what is no file; neither hidden ones nor those behind
    links to folders.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"can't be listed ({error.strerror}); check its permissions") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path)
        elif not entry.is_dir():
            yield entry.path, entry.stat() if entry.is_file() else None


def _members(file: BinaryIO, contents: bool) -> Iterator[tuple[tarfile.TarInfo, bytes | None]]:
    """The files of a tar, with what text files hold where `contents` are wanted."""
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if member.isfile():
                    text = contents and member.name.endswith((".txt", "metadata.jsonl"))
                    held = tar.extractfile(member) if text else None
                    yield member, held.read() if held else None
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(f"isn't a whole tar ({cause(error)}); get a fresh copy") from error


class _RemoteFiles:
    """Details of named remote files: asked one by one at first, then a folder at a time."""

    def __init__(self) -> None:
        self.folders: dict[str, dict[str, Any]] = {}
        self.asked: dict[str, int] = {}

    def details(self, address: str, system: Any, path: str) -> dict[str, Any]:
        folder = str(PurePosixPath(path).parent)
        key = f"{system.protocol}{folder}"
        self.asked[key] = self.asked.get(key, 0) + 1
        if self.asked[key] > 8 and key not in self.folders:
            listed = explained(address, lambda: system.ls(folder, detail=True))
            self.folders[key] = {one["name"]: one for one in listed}
        known = self.folders.get(key, {}).get(path)
        return known or explained(address, lambda: system.info(path))


def _reader(
    system: Any, start: str, listed: dict[str, Any] | None, sidecars: bool
) -> Callable[[str], bytes | None]:
    """Reads captions beside remote photos: all at once where the folder is listed, else one by one."""
    if listed is not None:
        wanted = (
            [place for place in listed if place.endswith((".txt", "/metadata.jsonl"))] if sidecars else []
        )
        known = explained(start, lambda: system.cat(wanted)) if wanted else {}
        return {start + place: content for place, content in known.items()}.get

    def read(address: str) -> bytes | None:
        try:
            content: bytes = system.cat_file(address.removeprefix(start))
        except FileNotFoundError:
            return None
        except Exception as error:  # each file system has errors of its own
            raise UsageError(f"{printable(address)}: can't be read ({cause(error)})") from error
        return content

    return read
