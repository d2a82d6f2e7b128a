"""What `invrecon edit` does with each input."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from invrecon.cli.batch import Files, Save, attempt
from invrecon.cli.results import Row, inversion_figures
from invrecon.errors import InputError, UsageError
from invrecon.formats import is_seed_file
from invrecon.settings import EditSettings, Settings
from invrecon.settings.run import each

if TYPE_CHECKING:
    from PIL.Image import Image

    from invrecon.models import Model
    from invrecon.pipeline import Edited, Editing, OnProgress

_FIELDS = (
    "input", "prompt", "edits", "compare_file", "psnr", "evaluations", "evaluations_per_step", "seed_norm",
    "seconds", "peak_memory_mb", "error",
)  # fmt: skip


@dataclass(frozen=True)
class EditJob:
    """The same edits for each input.

    Args:
        changes: of each edit: of a seed file's own edit where none says what to show, else of the defaults.
        swept: the settings that differ between the edits, for the comparison.
        masks: of inputs; under None, that of those which have none of their own.
        photos: of seed files.
        inversion: how a photo's seed is found.
        targets: what each input should show; None where the changes say it for all.
    """

    changes: Sequence[dict[str, Any]]
    swept: set[str]
    masks: dict[Path | None, Path]
    photos: dict[Path, Path]
    inversion: Literal["lbo", "ddim"]
    targets: dict[Path, str] | None = None
    fields: Sequence[str] = _FIELDS

    def name_files(self, source: Path) -> dict[str, str]:
        name, seeds = source.stem, True
        if is_seed_file(source):
            name = re.sub(r"\.edit(-\d+)?$", "", name.removesuffix(".seed"))
        else:
            seeds = any(EditSettings(**{"to": "", **change}).mode != "flowedit" for change in self.changes)
        files = {}
        for tail in self._tails():
            files[f"output{tail}"] = f"{name}.edit{tail}.png"
            if seeds:
                files[f"seed_file{tail}"] = f"{name}.edit{tail}.seed.safetensors"
        return files | {"compare_file": f"{name}.edit.compare.png"}

    def _tails(self) -> list[str]:
        """What the names of each edit's files end in."""
        numbers = range(1, len(self.changes) + 1)
        return [f"-{number}" for number in numbers] if len(self.changes) > 1 else [""]

    def run(
        self,
        inputs: Sequence[Path],
        model: "Model",
        settings: Settings | Sequence[Settings],
        on_progress: "OnProgress",
    ) -> Sequence[Any]:
        [source], [own] = inputs, each(settings, inputs)  # one photo at a time
        alone = self.targets is not None or not isinstance(settings, Settings)
        return attempt(lambda: self._edit(source, model, own, on_progress, alone))

    def _edit(
        self, source: Path, model: "Model", settings: Settings, on_progress: "OnProgress", alone: bool
    ) -> "Editing":
        """Args: alone: whether the input has texts of its own; where they can't be used, it alone fails."""
        from invrecon import pipeline

        photo, mask = self.photos.get(source), self.masks.get(source, self.masks.get(None))
        try:
            edits = self._edits(source)
            return pipeline.edit(
                source, model, edits, settings, on_progress, photo=photo, mask=mask, inversion=self.inversion
            )
        except UsageError as error:
            raise InputError(str(error)) if alone else error from error

    def _edits(self, source: Path) -> list[EditSettings]:
        from invrecon.pipeline.origin import stored_edit
        from invrecon.seedfile import load_seed

        own = {"to": self.targets[source]} if self.targets and source in self.targets else {}
        changes = [change | own for change in self.changes]
        if all("to" in change for change in changes):
            return [EditSettings(**change) for change in changes]
        base = stored_edit(source, load_seed(source))
        return [replace(base, **change) for change in changes]

    def keep(self, result: "Editing", files: Files, save: Save) -> Row:
        told = []
        for tail, one in zip(self._tails(), result.edits, strict=True):
            picture, seed_file = files[f"output{tail}"], files.get(f"seed_file{tail}")
            sha256 = save.seed(one.seed, seed_file) if seed_file and one.seed else ""
            save.png(one.picture, picture, one.header, "edit", sha256)
            told.append({"output": picture, "seed_file": seed_file} | _figures(one))
        save.png(_sheet(result, self.swept), files["compare_file"], result.edits[0].header, "comparison")
        figures = inversion_figures(result.inversion) if result.inversion else {}
        names = ("prompt", "psnr", "seconds", "advice")
        return figures | {"edits": told} | {name: getattr(result, name) for name in names}


def _figures(one: "Edited") -> dict[str, Any]:
    names = ("seconds", "change_db", "outside_psnr", "outside_reconstruction_psnr")
    uses_seed = {"uses_seed": one.settings.mode != "flowedit"}
    return asdict(one.settings) | uses_seed | {name: getattr(one, name) for name in names}


def _sheet(result: "Editing", swept: set[str]) -> "Image":
    from invrecon.sheet import Panel, contact_sheet

    first = [Panel("original", "", result.original)] if result.original else []
    note = "" if result.psnr is None else f"PSNR {result.psnr:.2f} dB"
    panels = [*first, Panel("reconstruction", note, result.reconstruction)]
    edits = [Panel(one.settings.to, one.settings.label(swept), one.square) for one in result.edits]
    masks = [Panel("mask", "white may change", one.mask) for one in result.edits if one.mask][:1]
    return contact_sheet([[*panels, *masks, *edits]] if len(edits) == 1 else [panels + masks, edits])
