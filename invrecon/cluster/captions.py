"""What photos show, as data sets say it: NAME.txt beside a photo, metadata.jsonl, or a file of captions."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from invrecon.cluster.source import Source
from invrecon.errors import UsageError, printable
from invrecon.settings import load_captions

Read = Callable[[str], bytes | None]
"""The bytes of a file beside the photos, by its address; None where there is none."""


def read_local(address: str) -> bytes | None:
    """`Read` for local files."""
    try:
        return Path(address).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"{printable(address)}: can't be read ({error}); check its permissions") from error


@dataclass(frozen=True)
class Captions:
    """Where prompts come from. A caption of `table` comes before one of metadata.jsonl, that before one of
    NAME.txt.

    Args:
        sidecars: whether files beside the photos count.
        table: captions by a photo's name, file name or stem.
    """

    sidecars: bool = False
    table: Mapping[str, str] = field(default_factory=dict)
    _metadata: dict[str, dict[str, str]] = field(default_factory=dict)

    def give(self, source: Source, read: Read) -> Source:
        """The source with its caption.

        Raises:
            UsageError: a metadata.jsonl isn't one.
        """
        if not self.table and not self.sidecars:
            return source
        name = PurePosixPath(source.name)
        for known in (source.name, name.name, name.stem):
            if known in self.table:
                return replace(source, prompt=self.table[known])
        if not self.sidecars:
            return source
        caption = self._of_metadata(source, read)
        if caption is None:
            try:
                caption = self._of_text(source, read)
            except UnicodeDecodeError:
                return replace(source, problem=f"its caption {name.stem}.txt isn't UTF-8; save it anew")
        return replace(source, prompt=caption)

    def _of_metadata(self, source: Source, read: Read) -> str | None:
        """From metadata.jsonl in the photo's folder, or in one above it as far as the folder given."""
        folder, _, below = source.address.rpartition("/")
        for _ in range(source.name.count("/") + 1 if source.found else 1):
            table = self._table_in(folder, read)
            if below in table:
                return table[below]
            folder, _, last = folder.rpartition("/")
            below = f"{last}/{below}"
        return None

    def _table_in(self, folder: str, read: Read) -> dict[str, str]:
        if folder not in self._metadata:
            address = f"{folder}/metadata.jsonl" if folder else "metadata.jsonl"
            content = read(address)
            self._metadata[folder] = {} if content is None else parse_metadata(content, address)
        return self._metadata[folder]

    def _of_text(self, source: Source, read: Read) -> str | None:
        folder, slash, file = source.address.rpartition("/")
        stem = file.split(".")[0] if source.archive else PurePosixPath(file).stem
        content = read(f"{folder}{slash}{stem}.txt")
        return None if content is None else " ".join(content.decode("utf-8-sig").split())


def parse_metadata(content: bytes, address: str) -> dict[str, str]:
    """Captions of a metadata.jsonl, as Hugging Face's imagefolder reads it: a JSON object a line, with
    `file_name` and `text`. Rows without `text` have none.

    Raises:
        UsageError: a line is anything else.
    """
    captions: dict[str, str] = {}
    for number, line in enumerate(content.decode("utf-8-sig", "surrogateescape").split("\n"), 1):
        if not line.strip():
            continue
        try:
            match json.loads(line):
                case {"file_name": str(name), "text": str(text)}:
                    captions[name.removeprefix("./")] = text
                case {"file_name": str()} as row if row.get("text") is None:
                    pass
                case _:
                    raise ValueError
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"{printable(address)}, line {number}: isn't a JSON object with file_name and text; mend it"
            ) from error
    return captions


def read_captions(path: Path) -> dict[str, str]:
    """The captions of a file: lines as in metadata.jsonl, or a table of names in JSON or TOML.

    Raises:
        UsageError: it is missing, or anything else.
    """
    if path.suffix.lower() != ".jsonl":
        return load_captions(path)
    content = read_local(str(path))
    if content is None:
        raise UsageError(f"{printable(path)}: No such file; give the captions' own path")
    return parse_metadata(content, str(path))
