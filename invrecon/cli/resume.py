"""`--resume`: what an earlier run finished is taken over, what it left half-done is done again."""

import hashlib
import json
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

from invrecon.errors import InvreconError, UsageError
from invrecon.journal import Journal
from invrecon.jsonable import jsonable
from invrecon.models import model_contents
from invrecon.settings import Hardware, Settings, settings_of

_WITHOUT_EFFECT = set(settings_of(Hardware)) - {"dtype", "tiling"}
"""Settings that change how soon a result comes, and the result by rounding alone: device, offload, batch size
and compilation.
"""


class Earlier:
    """Notes in `.invrecon.jsonl` beside the results: inputs that were begun, and figures of finished ones.

    An input is known by its bytes, the settings, the files that the model is loaded from, and the files it is
    written to.

    Raises:
        UsageError: the notes can't be read.
        ModelError: the model isn't there.
    """

    def __init__(self, out: Path, settings: Settings) -> None:
        path = out / ".invrecon.jsonl"
        try:
            self.journal = Journal(path)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UsageError(
                f"{path}: isn't what --resume left there; delete it, and results with --force, to start anew"
            ) from error
        self.settings = {
            name: value for name, value in asdict(settings).items() if name not in _WITHOUT_EFFECT
        }
        place = (settings.model, settings.revision, settings.variant, settings.base, settings.vae)
        self.model = model_contents(*place)

    def begun(self, source: Path, files: Collection[Path]) -> bool:
        """Whether the files are an earlier run's own, and may be replaced."""
        return self._key(source, files) in self.journal

    def figures(self, source: Path, files: Collection[Path]) -> dict[str, Any] | None:
        """Those of an input that was finished and whose files are still there, else None."""
        note = self.journal.rows.get(self._key(source, files), {})
        figures: dict[str, Any] | None = note.get("figures")
        return figures if all(path.exists() for path in files) else None

    def note(self, source: Path, files: Collection[Path], figures: dict[str, Any] | None) -> None:
        """Notes that an input is begun, or finished with these figures.

        Raises:
            InvreconError: the disk doesn't take it.
        """
        try:
            self.journal.add(self._key(source, files), {"figures": jsonable(figures)})
        except OSError as error:
            raise InvreconError(
                f"{self.journal.path}: can't be written ({error.strerror}); free some space"
            ) from error

    def _key(self, source: Path, files: Collection[Path]) -> str:
        places = sorted(str(path.absolute()) for path in files)
        told = json.dumps([self.settings, self.model, places], sort_keys=True)
        return hashlib.sha256(source.read_bytes() + told.encode()).hexdigest()
