"""Options of commands that take many photos: where they are, what becomes of them, and who does the work."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from invrecon.cli import options
from invrecon.cli.boundary import say
from invrecon.cluster.source import Source
from invrecon.errors import UsageError


@dataclass(frozen=True)
class Gathering:
    """Where photos are besides those that are named, and where their captions are."""

    recursive: Annotated[
        bool,
        typer.Option("--recursive", "-r", help="Take the photos in folders, and below addresses, too."),
    ] = False
    listed: Annotated[
        str | None,
        typer.Option("--from", metavar="LIST", help="A file with an input a line; - is standard input."),
    ] = None
    sidecars: Annotated[
        bool,
        typer.Option("--sidecars", help="Take prompts from metadata.jsonl, or NAME.txt, beside the photos."),
    ] = False
    captions: Annotated[
        Path | None,
        typer.Option("--captions", metavar="FILE", help="Prompts of photos, by name: JSON, JSONL or TOML."),
    ] = None


@dataclass(frozen=True)
class Resumable:
    """Where results go, what of them is taken over, and who does the work."""

    out: Annotated[
        str, typer.Option("--out", "-o", metavar="DIR", help="Folder or address for the results.")
    ] = "."
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite results that exist.")] = False
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Take over what an earlier run with --resume finished with the same settings."
        ),
    ] = False
    verify_bytes: Annotated[
        bool, typer.Option("--verify-bytes", help="Know finished inputs by their bytes, not size and time.")
    ] = False
    keep_tree: Annotated[
        bool, typer.Option("--keep-tree", help="Put results in folders like those of the inputs.")
    ] = False
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="Do the I-th of N parts, from 0; implies --resume."),
    ] = None
    engine: Annotated[
        str | None,
        typer.Option("--engine", metavar="ray", help="Who hands out the work; implies --resume."),
    ] = None
    address: Annotated[
        str, typer.Option("--address", metavar="auto|ray://...", help="Of the Ray cluster.")
    ] = ""
    workers: Annotated[
        int, typer.Option("--workers", min=0, metavar="N", help="Of Ray; 0 is one a GPU, or one a node.")
    ] = 0
    gpus_per_worker: Annotated[
        float | None, typer.Option("--gpus-per-worker", min=0, metavar="N", help="1 where there are any.")
    ] = None
    max_failures: Annotated[
        int | None, typer.Option("--max-failures", min=1, metavar="N", help="Stop after N failed inputs.")
    ] = None
    pack: Annotated[
        str | None, typer.Option("--pack", metavar="tar", help="Write WebDataset tars in place of files.")
    ] = None
    seed_dtype: Annotated[
        str, typer.Option("--seed-dtype", metavar="float32|float16", help="Of the noise in seed files.")
    ] = "float32"
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and how long it would take.")
    ] = False
    metadata: bool = True

    def __post_init__(self) -> None:
        for option, value, words in (
            ("--engine", self.engine, ("ray",)),
            ("--pack", self.pack, ("tar",)),
            ("--seed-dtype", self.seed_dtype, ("float32", "float16")),
        ):
            if value is not None and value not in words:
                raise UsageError(f"{option} must be {' or '.join(words)}, not {value!r}")
        if self.engine is None and (self.address or self.workers or self.gpus_per_worker is not None):
            raise UsageError("--address, --workers and --gpus-per-worker belong to --engine ray: add it")
        _ = self.part

    @property
    def resumes(self) -> bool:
        """Whether notes are read and made."""
        return self.resume or self.shard is not None or self.engine is not None

    @property
    def part(self) -> tuple[int, int] | None:
        """The shard: its number and how many there are."""
        if self.shard is None:
            return None
        match = re.fullmatch(r"(\d+)/(\d+)", self.shard)
        if not match or int(match[1]) >= int(match[2]):
            raise UsageError(f"--shard reads I/N with I from 0 to N - 1, as in 0/4, not {self.shard!r}")
        return int(match[1]), int(match[2])


@dataclass(frozen=True)
class ResumablePictures(Resumable):
    """Of a command whose results are pictures."""

    metadata: options.Metadata = True


def gather(named: list[str] | None, gathering: Gathering, target: Resumable, prompt: str) -> list[Source]:
    """The inputs of a run, with their captions unless there is a prompt for all.

    Raises:
        UsageError: there are none, or a list or captions can't be read.
    """
    from invrecon.cluster.captions import Captions, read_captions
    from invrecon.cluster.listing import Lister, read_list

    addresses = [*(named or []), *(read_list(gathering.listed) if gathering.listed else [])]
    if not addresses:
        raise UsageError("nothing to do: name photos, or a list of them with --from")
    captioned = not prompt and (gathering.sidecars or gathering.captions)
    table = read_captions(gathering.captions) if captioned and gathering.captions else {}
    captions = Captions(gathering.sidecars and not prompt, table)
    lister = Lister(gathering.recursive, captions)
    sources = list(map(_refuse_folder, lister.sources(addresses)))
    if lister.passed_over:
        say(f"{lister.passed_over} files that aren't photos are passed over")
    if captioned:
        there = sum(source.prompt is not None for source in sources)
        say(f"{there} of {len(sources)} photos have a caption")
    if target.part:
        sources = [source for source in sources if source.in_shard(*target.part)]
    return sources


def _refuse_folder(source: Source) -> Source:
    """Folders are entered only where that is asked for."""
    if source.path and not source.found and os.path.isdir(source.address):
        return replace(source, problem="is a folder; take its photos with --recursive, or name them")
    return source
