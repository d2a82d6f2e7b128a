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

    title = options.PHOTOS

    recursive: Annotated[
        bool,
        typer.Option(
            "--recursive",
            "-r",
            help="Take the photos in the folders, and below the addresses, that are named.",
            rich_help_panel=options.FIRST,
        ),
    ] = False
    listed: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="LIST",
            help="Take the inputs that a file lists, one a line; - is standard input.",
        ),
    ] = None
    sidecars: Annotated[
        bool,
        typer.Option(
            "--sidecars", help="Give each photo the prompt that NAME.txt or metadata.jsonl beside it has."
        ),
    ] = False
    captions: Annotated[
        Path | None,
        typer.Option(
            "--captions",
            metavar="FILE",
            help="Give each photo the prompt that this JSON, JSONL or TOML file has for its name.",
        ),
    ] = None


@dataclass(frozen=True)
class Resumable:
    """Where results go, what of them is taken over, and who does the work."""

    title = "Many photos, many machines"

    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Folder or address for the results.",
            rich_help_panel=options.FIRST,
        ),
    ] = "."
    force: Annotated[
        bool,
        typer.Option("--force", "-f", help="Overwrite results that exist.", rich_help_panel=options.FIRST),
    ] = False
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Do only what earlier runs with --resume and the same settings left undone. Take it for "
            "runs that may be interrupted.",
        ),
    ] = False
    verify_bytes: Annotated[
        bool,
        typer.Option(
            "--verify-bytes",
            help="Know finished inputs by their bytes, not by size and time. Slower; finds every change.",
        ),
    ] = False
    keep_tree: Annotated[
        bool,
        typer.Option(
            "--keep-tree",
            help="Put results in folders like those of the inputs, where photos have the same names.",
        ),
    ] = False
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            metavar="I/N",
            help="Do the I-th of N parts, from 0, as a task of a scheduler. Implies --resume.",
        ),
    ] = None
    engine: Annotated[
        str | None,
        typer.Option("--engine", metavar="ray", help="Let a Ray cluster do the work. Implies --resume."),
    ] = None
    address: Annotated[
        str,
        typer.Option(
            "--address",
            metavar="auto|ray://...",
            help="Where the Ray cluster is; without it one of this machine is started.",
        ),
    ] = ""
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            min=0,
            metavar="N",
            help="Workers of Ray, each with its own model; 0 is one a GPU, or one a node without GPUs.",
        ),
    ] = 0
    gpus_per_worker: Annotated[
        float | None,
        typer.Option(
            "--gpus-per-worker",
            min=0,
            metavar="N",
            help="GPUs that a worker of Ray takes: 0.5 puts two on a card. 1 if left out, where there are "
            "any.",
        ),
    ] = None
    max_failures: Annotated[
        int | None,
        typer.Option(
            "--max-failures",
            min=1,
            metavar="N",
            help="Stop after N failed inputs, where so many mean that something is wrong with the run.",
        ),
    ] = None
    pack: Annotated[
        str | None,
        typer.Option(
            "--pack",
            metavar="tar",
            help="Write results into WebDataset tars, where there would be too many files.",
        ),
    ] = None
    seed_dtype: Annotated[
        str,
        typer.Option(
            "--seed-dtype",
            metavar="float32|float16",
            help="Precision of the noise in seed files; float16 halves them and loses some dB.",
        ),
    ] = "float32"
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done, and how long it would take.")
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
    return sources


def _refuse_folder(source: Source) -> Source:
    """Folders are entered only where that is asked for."""
    if not source.found and source.is_file and os.path.isdir(source.address):
        return replace(source, problem="is a folder; take its photos with --recursive, or name them")
    return source
