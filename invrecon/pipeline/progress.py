"""Names of places in a run, for progress bars."""

from invrecon.core.sampler import OnProgress


def numbered(on_progress: OnProgress | None, place: str) -> OnProgress | None:
    """Puts a place ("2/9", say) before the name of every stage."""
    return (lambda stage, done, total: on_progress(f"{place} {stage}", done, total)) if on_progress else None
