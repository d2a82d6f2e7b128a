"""What pages say in HTML: how far a job is, what went wrong, and tables of figures."""

from collections.abc import Mapping, Sequence
from html import escape

_STAGES_SHOWN = 6


def progress(stages: Mapping[str, tuple[int, int]], ahead: int) -> str:
    """How far a job is: its last stages, or how many jobs are to be done before it."""
    if ahead:
        jobs = "1 job is" if ahead == 1 else f"{ahead} jobs are"
        return note(f"Waiting: {jobs} ahead of yours.")
    if not stages:
        return note("Starting ...")
    *finished, current = list(stages)[-_STAGES_SHOWN:]
    done, total = stages[current]
    bar = f'<progress value="{done}" max="{total}"></progress> {done} of {total}'
    items = [f'<li class="finished">{escape(_capital(stage))}</li>' for stage in finished]
    return f'<ol role="status">{"".join(items)}<li>{escape(_capital(current))} {bar}</li></ol>'


def note(text: str) -> str:
    """A remark."""
    return f'<p role="status">{escape(text)}</p>'


def problem(text: str) -> str:
    """What went wrong."""
    return f'<p role="alert">{escape(text)}</p>'


def table(rows: Sequence[tuple[str, float | str | None, str]]) -> str:
    """A table of figures.

    Args:
        rows: name, value and format of each; those without a value are left out.
    """
    lines = [
        f"<tr><th>{escape(name)}</th><td>{escape(format(value, form))}</td></tr>"
        for name, value, form in rows
        if value is not None
    ]
    return f"<table>{''.join(lines)}</table>"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
