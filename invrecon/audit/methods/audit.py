"""An audit: photo by photo, run by run. A run that the folder holds is not done again."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from invrecon.audit.methods.measurement import make_row
from invrecon.audit.methods.photo import AuditPhoto, boosting_key, load_audit_photo, note_photo
from invrecon.audit.methods.plan import Plan, Run
from invrecon.core.peers import BY_LEVELS
from invrecon.core.peers.noise_levels import noise_levels
from invrecon.errors import UsageError
from invrecon.journal import Journal, key
from invrecon.pipeline import OnProgress
from invrecon.settings import Settings

if TYPE_CHECKING:
    from invrecon.models import Model


def run_audit(
    photos: list[Path],
    model: Model,
    plan: Plan,
    settings: Settings,
    out: Path,
    on_progress: OnProgress | None = None,
) -> Journal:
    """Runs what `out` doesn't hold yet; every finished run is kept at once.

    Args:
        photos: of any format and size; each is laid on its canvas.
        settings: model, steps, size, fit, rtol and boosting; prompt and guidance are the plan's.
        out: folder for results.jsonl, pictures and boosted latents.

    Raises:
        InputError: a photo can't be used.
        UsageError, ModelError: a method can't be run on the model.
    """
    journal = Journal(out / "results.jsonl")
    flow = model.prediction("auto") == "flow"
    settings = replace(settings, sampler="auto" if flow else "ddim")
    model.check(settings)
    if bound := [name for name in plan.methods if name in BY_LEVELS]:
        try:
            noise_levels(model.schedule(settings.recipe(256, 256)))
        except ValueError as error:
            raise UsageError(
                f"{', '.join(bound)} can't be run on {model.name}: {error}; name other --methods"
            ) from error
    runs, done = list(plan.runs()), 0
    for path in photos:
        photo = load_audit_photo(path, model, settings, out)
        note_photo(photo, model, plan, settings, journal)
        for run in runs:
            done += 1
            if on_progress:
                on_progress(f"{path.name}: {run.method}, {run.setting.name}", done, len(runs) * len(photos))
            name = row_key(run, photo, settings)
            if name not in journal:
                journal.add(
                    name, make_row(run, photo, model, settings, plan.caption(path, run.setting), name)
                )
    return journal


def row_key(run: Run, photo: AuditPhoto, settings: Settings) -> str:
    """The journal's key of a run: all that its figures depend on. It is the same as in earlier versions."""
    boosting = boosting_key(settings) if run.boosted else ()
    return key(photo.identity, *asdict(run).values(), settings.rtol, *boosting)
