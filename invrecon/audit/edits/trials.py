"""All edits of a cut-out: whether the background changed its colour, and what became of the object."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from PIL.Image import Image

from invrecon.audit.edits.cutouts import Composite, is_called, mean_hue
from invrecon.image import save_png
from invrecon.metrics import psnr
from invrecon.pipeline import Edited, Editing, OnProgress, edit
from invrecon.seedfile import save_seed
from invrecon.settings import EditSettings, Settings

if TYPE_CHECKING:
    from invrecon.models import Model

MASKS = ("none", "auto", "drawn")
_FILES = ("photo.png", "photo.seed.safetensors", "mask.png")
GREY = 0.1  # saturation below which a mean colour has no meaningful hue
KEPT = 22.0  # dB inside the object from which it counts as kept


@dataclass(frozen=True)
class Trial:
    """One edit of one cut-out.

    Args:
        label: of the edit's settings; "reconstruction" for none.
        hue, saturation: of the background's mean colour; `moved` is whether it goes by the new colour's name.
        object_psnr: inside the cut-out's alpha, against the original, dB.
        outside_psnr, outside_reconstruction_psnr: outside of a mask, of the edit and of the plain
            reconstruction.
        seconds: for the edit, inversion not counted.
    """

    cutout: str
    inversion: str
    mask: str
    label: str
    hue: float
    saturation: float
    moved: bool
    object_psnr: float
    outside_psnr: float | None
    outside_reconstruction_psnr: float | None
    seconds: float
    picture: Image


@dataclass(frozen=True)
class EditPlan:
    """What is tried on each cut-out.

    Args:
        colours: of the background, before and after.
        edits: their `to` is replaced by the caption with the new colour.
        masks: out of `MASKS`; the drawn one is the background's own.
        swept: the settings that labels name in any case.
    """

    colours: tuple[str, str]
    edits: Sequence[EditSettings]
    masks: Sequence[str]
    swept: Collection[str]


def run_trials(
    composite: Composite,
    plan: EditPlan,
    inversion: Literal["lbo", "ddim"],
    model: Model,
    settings: Settings,
    on_progress: OnProgress | None = None,
) -> list[Trial]:
    """All edits of one cut-out, first its plain reconstruction."""
    old, new = (f"a {composite.name} on a {colour} background" for colour in plan.colours)
    settings = replace(settings, prompt=old, size=composite.picture.width)
    wanted = [
        (mask, replace(each, to=new, auto_mask=mask == "auto")) for mask in plan.masks for each in plan.edits
    ]
    free = [each for mask, each in wanted if mask != "drawn"]
    drawn = [each for mask, each in wanted if mask == "drawn"]
    with TemporaryDirectory() as folder:
        photo, seed, mask = (Path(folder) / name for name in _FILES)
        save_png(composite.picture, photo)
        save_png(composite.background, mask)
        result = edit(photo, model, free or [EditSettings(old)], settings, on_progress, inversion=inversion)
        done = result.edits if free else []
        if drawn:
            found = result.edits[0].seed
            if found:
                save_seed(replace(found, mask=None), seed)
                edited = edit(seed, model, drawn, None, on_progress, photo=photo, mask=mask)
            else:
                edited = edit(photo, model, drawn, settings, on_progress, mask=mask)
            done = done + edited.edits
    masks = [mask for mask, _ in wanted if mask != "drawn"] + ["drawn"] * len(drawn)
    labels = [one.settings.label(plan.swept).removesuffix(", auto mask") for one in done]
    return [
        _judge(one, label, mask, composite, plan.colours[1], inversion)
        for one, label, mask in zip(
            [_unedited(result), *done], ["reconstruction", *labels], ["-", *masks], strict=True
        )
    ]


def _unedited(result: Editing) -> Edited:
    """The plain reconstruction in an edit's place."""
    return replace(
        result.edits[0],
        square=result.reconstruction,
        mask=None,
        outside_psnr=None,
        outside_reconstruction_psnr=None,
        seconds=0,
    )


def _judge(one: Edited, label: str, mask: str, composite: Composite, colour: str, inversion: str) -> Trial:
    hue, saturation = mean_hue(one.square, composite.background)
    return Trial(
        cutout=composite.name,
        inversion=inversion,
        mask=mask,
        label=label,
        hue=hue,
        saturation=saturation,
        moved=saturation >= GREY and is_called(hue, colour),
        object_psnr=psnr(composite.picture, one.square, composite.object),
        outside_psnr=one.outside_psnr,
        outside_reconstruction_psnr=one.outside_reconstruction_psnr,
        seconds=one.seconds,
        picture=one.square,
    )


def tabulate(trials: Iterable[Trial]) -> list[dict[str, Any]]:
    """One row for each edit, mask and inversion, over all cut-outs."""
    groups: dict[tuple[str, str, str], list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.label, trial.mask, trial.inversion), []).append(trial)
    return [
        {
            "edit": label,
            "mask": mask,
            "inversion": inversion,
            "cutouts": len(group),
            "moved": sum(each.moved for each in group),
            "median_hue": statistics.median(each.hue for each in group),
            "kept": sum(each.object_psnr >= KEPT for each in group),
            "moved_and_kept": sum(each.moved and each.object_psnr >= KEPT for each in group),
            "median_object_psnr": statistics.median(each.object_psnr for each in group),
            "worst_object_psnr": min(each.object_psnr for each in group),
            "worst_outside_loss_db": max(
                (_loss(each) for each in group if each.outside_psnr is not None), default=None
            ),
            "mean_seconds": statistics.fmean(each.seconds for each in group),
        }
        for (label, mask, inversion), group in groups.items()
    ]


def _loss(trial: Trial) -> float:
    assert trial.outside_psnr is not None
    assert trial.outside_reconstruction_psnr is not None
    return trial.outside_reconstruction_psnr - trial.outside_psnr
