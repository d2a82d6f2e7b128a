"""All edits of a cut-out: whether the background changed its colour, and what became of the object."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from PIL.Image import Image

from invrecon.audit.edits.cutouts import GREY, Composite, is_called, mean_hue, share_called
from invrecon.image import load_photo, save_png
from invrecon.metrics import psnr
from invrecon.pipeline import Edited, Editing, OnProgress, edit
from invrecon.pipeline.inversion import InversionMethod
from invrecon.pipeline.subject import canvas_for
from invrecon.seedfile import save_seed
from invrecon.settings import EditSettings, Settings

if TYPE_CHECKING:
    from invrecon.models import Model

MASKS = ("none", "auto", "drawn")
KEPT = 22.0  # dB inside the object from which it counts as kept
HALO = 0.1  # share of the ring in the old colour from which there is a halo


@dataclass(frozen=True)
class Trial:
    """One edit of one cut-out.

    Args:
        label: of the edit's settings; "reconstruction" for none.
        hue, saturation: of the background's mean colour; `moved` is whether it goes by the new colour's name.
        halo: share of the pixels next to the object that still go by the old colour's name.
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
    halo: float
    object_psnr: float
    outside_psnr: float | None
    outside_reconstruction_psnr: float | None
    seconds: float
    picture: Image


@dataclass(frozen=True)
class EditPlan:
    """What is tried on each cut-out.

    Args:
        colours: of a cut-out's background, before and after.
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
    inversion: InversionMethod,
    model: Model,
    settings: Settings,
    on_progress: OnProgress | None = None,
) -> list[Trial]:
    """All edits of one cut-out, first its plain reconstruction."""
    old, new = (f"a {composite.name} on a {colour} background" for colour in plan.colours)
    settings = replace(settings, prompt=old, size=composite.picture.width)
    with TemporaryDirectory() as folder:
        photo = Path(folder) / "photo.png"
        save_png(composite.picture, photo)
        made = make_edits(photo, composite.background, new, plan, inversion, model, settings, on_progress)
    return [_judge(one, label, mask, composite, plan.colours, inversion) for label, mask, one in made]


def make_edits(
    photo: Path,
    drawn: Image,
    to: str,
    plan: EditPlan,
    inversion: InversionMethod,
    model: Model,
    settings: Settings,
    on_progress: OnProgress | None = None,
) -> list[tuple[str, str, Edited]]:
    """(label, mask, edit) of all edits of a photo, first its plain reconstruction; it is inverted once.

    Args:
        drawn: the mask of that name, white where the edit may happen, of the photo's size.
        to: the prompt after; the one before is the settings'.
    """
    wanted = [
        (mask, replace(each, to=to, auto_mask=mask == "auto")) for mask in plan.masks for each in plan.edits
    ]
    free = [each for mask, each in wanted if mask != "drawn"]
    masked = [each for mask, each in wanted if mask == "drawn"]
    first = free or [EditSettings(settings.prompt)]
    result = edit(photo, model, first, settings, on_progress, inversion=inversion)
    done = result.edits if free else []
    if masked:
        found = result.edits[0].seed
        with TemporaryDirectory() as folder:
            seed, mask = Path(folder) / "photo.seed.safetensors", Path(folder) / "mask.png"
            save_png(drawn, mask)
            if found:
                save_seed(replace(found, mask=None), seed)
                edited = edit(seed, model, masked, None, on_progress, photo=photo, mask=mask)
            else:
                edited = edit(photo, model, masked, settings, on_progress, mask=mask)
            done = done + edited.edits
    masks = [mask for mask, _ in wanted if mask != "drawn"] + ["drawn"] * len(masked)
    labels = [one.settings.label(plan.swept).removesuffix(", auto mask") for one in done]
    whole = load_photo(photo)
    restored = canvas_for(whole, model, settings).restore(result.reconstruction, whole)
    return [
        ("reconstruction", "-", _unedited(result, restored)),
        *zip(labels, masks, done, strict=True),
    ]


def _unedited(result: Editing, restored: Image) -> Edited:
    """The plain reconstruction in an edit's place; `restored` is it at the photo's own size."""
    return replace(
        result.edits[0],
        picture=restored,
        square=result.reconstruction,
        mask=None,
        outside_psnr=None,
        outside_reconstruction_psnr=None,
        seconds=0,
    )


def _judge(
    one: Edited, label: str, mask: str, composite: Composite, colours: tuple[str, str], inversion: str
) -> Trial:
    hue, saturation = mean_hue(one.square, composite.background)
    return Trial(
        cutout=composite.name,
        inversion=inversion,
        mask=mask,
        label=label,
        hue=hue,
        saturation=saturation,
        moved=saturation >= GREY and is_called(hue, colours[1]),
        halo=share_called(one.square, composite.ring, colours[0]),
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
            "without_halo": sum(each.halo < HALO for each in group),
            "median_halo": statistics.median(each.halo for each in group),
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
