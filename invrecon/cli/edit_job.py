"""What `invrecon edit` does with each input."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from invrecon.cli.batch import Files, Save, attempt
from invrecon.cli.results import Row, inversion_figures
from invrecon.formats import is_seed_file
from invrecon.settings import EditSettings, Settings

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
        masks, photos: of inputs, and of seed files.
        inversion: how a photo's seed is found.
    """

    changes: Sequence[dict[str, Any]]
    swept: set[str]
    masks: dict[Path, Path]
    photos: dict[Path, Path]
    inversion: Literal["lbo", "ddim"]
    fields: Sequence[str] = _FIELDS

    def name_files(self, source: Path, out: Path) -> Files:
        name = source.stem
        if is_seed_file(source):
            name = re.sub(r"\.edit(-\d+)?$", "", name.removesuffix(".seed"))
        files: Files = {}
        for number in range(1, len(self.changes) + 1):
            tail = f"-{number}" if len(self.changes) > 1 else ""
            files[f"output{tail}"] = out / f"{name}.edit{tail}.png"
            files[f"seed_file{tail}"] = out / f"{name}.edit{tail}.seed.safetensors"
        return files | {"compare_file": out / f"{name}.edit.compare.png"}

    def run(
        self,
        inputs: Sequence[Path],
        model: "Model",
        settings: Settings | Sequence[Settings],
        on_progress: "OnProgress",
    ) -> Sequence[Any]:
        [source] = inputs
        assert isinstance(settings, Settings)  # one photo at a time
        return attempt(lambda: self._edit(source, model, settings, on_progress))

    def _edit(self, source: Path, model: "Model", settings: Settings, on_progress: "OnProgress") -> "Editing":
        from invrecon import pipeline
        from invrecon.pipeline.origin import stored_edit
        from invrecon.seedfile import load_seed

        if any("to" not in change for change in self.changes):
            base = stored_edit(source, load_seed(source))
            edits = [replace(base, **change) for change in self.changes]
        else:
            edits = [EditSettings(**change) for change in self.changes]
        photo, mask = self.photos.get(source), self.masks.get(source)
        return pipeline.edit(
            source, model, edits, settings, on_progress, photo=photo, mask=mask, inversion=self.inversion
        )

    def keep(self, result: "Editing", files: Files, save: Save) -> Row:
        pairs = zip(
            *(iter([path for name, path in files.items() if name != "compare_file"]),) * 2, strict=True
        )
        told = []
        for one, (picture, seed_file) in zip(result.edits, pairs, strict=True):
            sha256 = save.seed(one.seed, seed_file)
            save.png(one.picture, picture, one.seed, "edit", sha256)
            told.append({"output": picture, "seed_file": seed_file} | _figures(one))
        first = result.edits[0].seed
        save.png(_sheet(result, self.swept), files["compare_file"], first, "comparison")
        figures = inversion_figures(result.inversion) if result.inversion else {}
        prompt = first.header["prompt"]
        return (
            figures
            | {"prompt": prompt, "edits": told, "psnr": result.psnr}
            | {
                "seconds": result.seconds,
                "advice": result.advice,
            }
        )


def _figures(one: "Edited") -> dict[str, Any]:
    names = ("seconds", "change_db", "outside_psnr", "outside_reconstruction_psnr")
    return asdict(one.settings) | {name: getattr(one, name) for name in names}


def _sheet(result: "Editing", swept: set[str]) -> "Image":
    from invrecon.sheet import Panel, contact_sheet

    first = [Panel("original", "", result.original)] if result.original else []
    note = "" if result.psnr is None else f"PSNR {result.psnr:.2f} dB"
    panels = [*first, Panel("reconstruction", note, result.reconstruction)]
    edits = [Panel(one.settings.to, one.settings.label(swept), one.square) for one in result.edits]
    masks = [Panel("mask", "white may change", one.mask) for one in result.edits if one.mask][:1]
    return contact_sheet([[*panels, *masks, *edits]] if len(edits) == 1 else [panels + masks, edits])
