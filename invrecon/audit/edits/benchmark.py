"""All edits on the photos of PIE-Bench, judged by its own metrics; what a folder holds is not done again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL.Image import Image, fromarray

from invrecon.audit.edits.background import Judges, judge
from invrecon.audit.edits.pie_bench import Case
from invrecon.audit.edits.trials import EditPlan, make_edits
from invrecon.errors import InputError, UsageError
from invrecon.image import load_photo, save_png
from invrecon.journal import Journal, key
from invrecon.jsonable import jsonable
from invrecon.pipeline import OnProgress
from invrecon.pipeline.inversion import InversionMethod
from invrecon.settings import Settings

if TYPE_CHECKING:
    from invrecon.models import Model

Row = dict[str, Any]
METRICS = (
    "structure_distance", "psnr", "lpips", "mse", "ssim", "clip_source", "clip_whole", "clip_edited"
)  # fmt: skip


def run_benchmark(
    cases: Sequence[Case],
    plan: EditPlan,
    inversions: Sequence[InversionMethod],
    judges: Judges,
    model: Model,
    settings: Settings,
    out: Path,
    on_progress: OnProgress | None = None,
) -> Iterator[Row]:
    """The rows of each photo in turn: one for each edit, mask and inversion, or one with its error.

    A photo or prompt that can't be used is told in its row, and the others are done. Pictures are written
    to `out`/INVERSION, EDIT, MASK/, below it as in annotation_images.
    """
    journal, total = Journal(out / "results.jsonl"), len(cases) * len(inversions)
    for number, (case, way) in enumerate(((case, way) for case in cases for way in inversions), 1):
        if on_progress:
            on_progress(f"{case.name}, {way}", number, total)
        try:
            yield from _rows(case, way, plan, judges, model, settings, journal)
        except (InputError, UsageError) as error:
            yield {"photo": case.place, "inversion": way, "error": str(error)}


def _rows(
    case: Case,
    way: InversionMethod,
    plan: EditPlan,
    judges: Judges,
    model: Model,
    settings: Settings,
    journal: Journal,
) -> list[Row]:
    photo = load_photo(case.path)
    mask, settings = case.mask(*photo.rgb.size), replace(settings, prompt=case.source)
    what = photo.sha256, model.fingerprint, sorted(asdict(settings).items()), case.target, case.runs
    edits = [sorted(asdict(each).items()) for each in plan.edits]
    judged = [name for name, one in vars(judges).items() if one]
    name = key("pie-bench", *what, edits, plan.masks, way, judged)
    if name not in journal:
        drawn = fromarray(255 * mask.astype(np.uint8))
        made = make_edits(case.path, drawn, case.target, plan, way, model, settings)
        rows = []
        for label, under, one in made:
            folder = f"{way}, {label}" + (f", {under} mask" if under in ("auto", "drawn") else "")
            picture = Path(folder) / Path(case.place).with_suffix(".png")
            _save(one.picture, journal.path.parent / picture)
            figures = judge(photo.rgb, one.picture, mask, (case.source, case.target), judges)
            rows.append(
                {"photo": case.place, "edit": label, "mask": under, "inversion": way}
                | {"everything": bool(mask.all()), "error": None, "picture": picture.as_posix()}
                | jsonable(figures)
            )
        journal.add(name, {"rows": rows})
    return list(journal.rows[name]["rows"])


def _save(picture: Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(picture, path)


def tabulate_benchmark(rows: Iterable[Row]) -> list[Row]:
    """One line for each edit, mask and inversion: means over the photos, as the benchmark's tables have it.

    Photos whose mask covers everything have no background and are counted in `everything`, those whose
    background is equal to the photo's in `equal`; neither counts in the mean of `psnr`.
    """
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if not row["error"]:
            groups.setdefault((row["edit"], row["mask"], row["inversion"]), []).append(row)
    return [
        {
            "edit": edit,
            "mask": mask,
            "inversion": inversion,
            "photos": len(group),
            "everything": sum(row["everything"] for row in group),
            "equal": sum(row["mse"] == 0 for row in group),
            **{name: _mean(row[name] for row in group) for name in METRICS},
        }
        for (edit, mask, inversion), group in groups.items()
    ]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
