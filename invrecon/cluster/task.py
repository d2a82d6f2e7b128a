"""What is to be done with an input, as it is sent to a worker."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from invrecon.cluster.source import Source
from invrecon.settings import Settings

if TYPE_CHECKING:
    from PIL.Image import Image

    from invrecon.models import Model
    from invrecon.pipeline import OnProgress
    from invrecon.pipeline.about import Kind
    from invrecon.seedfile import Seed

Row = dict[str, Any]  # what became of one input, by the names of JSON fields; one that isn't there is None
Files = dict[str, Path]  # from the row's field to the file that is written


@dataclass(frozen=True)
class Save:
    """Writes results. Files that have come to be since the run began are kept, unless `overwrite`.

    Args:
        seed_dtype: of the latents in seed files, "float32" or "float16".
        metadata: whether pictures say of themselves how they were made.
    """

    overwrite: bool
    seed_dtype: str = "float32"
    metadata: bool = True

    def png(
        self, picture: "Image", path: Path, header: Mapping[str, Any], kind: "Kind", seed_sha256: str = ""
    ) -> None:
        """Writes a picture, which says what `pipeline.about` makes of the last three arguments."""
        from invrecon.image import save_png
        from invrecon.pipeline.about import about

        save_png(picture, path, self.overwrite, about(header, kind, seed_sha256) if self.metadata else None)

    def gif(self, frames: "Sequence[Image]", path: Path) -> None:
        from invrecon.image import save_gif

        save_gif(frames, path, overwrite=self.overwrite)

    def seed(self, seed: "Seed", path: Path) -> str:
        """Writes a seed file, and returns its SHA-256."""
        from invrecon.seedfile import save_seed

        return save_seed(seed, path, self.overwrite, self.seed_dtype)


class Job(Protocol):
    """What a command does with its inputs."""

    @property
    def fields(self) -> Sequence[str]:
        """Fields of a row, as JSON shows them."""

    def name_files(self, source: Path) -> dict[str, str]:
        """Names of the files that are made of an input. Raises InputError where it isn't one for this
        command.
        """

    def run(
        self,
        inputs: Sequence[Path],
        model: "Model",
        settings: Settings | Sequence[Settings],
        on_progress: "OnProgress",
    ) -> Sequence[Any]:
        """Results of several photos, or of one seed file; an error in the place of one that failed. The
        settings are one for all, or one for each.
        """

    def keep(self, result: Any, files: Files, save: Save) -> Row:
        """Writes the files of one result, and returns its figures."""


@dataclass(frozen=True)
class Task:
    """An input that is to be done.

    Args:
        number: of its row.
        files: names of the files that are made of it, by the row's field.
        prompt: its own.
        dtype: in which the network runs.
        overwrite: whether the files may be replaced.
        key: of its notes; "" where none are made.
    """

    number: int
    source: Source
    files: Mapping[str, str]
    prompt: str
    dtype: str
    overwrite: bool
    key: str = ""

    def dumps(self) -> str:
        """As text, for another process."""
        return json.dumps(asdict(self))

    @staticmethod
    def loads(text: str) -> "Task":
        """From `dumps`."""
        told = json.loads(text)
        return Task(**told | {"source": Source(**told["source"])})
