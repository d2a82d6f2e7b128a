"""What all tabs of the page share: fields for settings, a button that starts a job, and its progress."""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, wait
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import torch

from invrecon.cluster.task import Save
from invrecon.core.sampler import OnProgress
from invrecon.errors import sentence
from invrecon.image import load_photo
from invrecon.settings import Settings, settings_of
from invrecon.ui import markup
from invrecon.ui.jobs import Job, JobCancelledError, Jobs

if TYPE_CHECKING:
    from invrecon.models import Model

Values = dict[str, Any]
"""What a person has filled in, by the names of the fields."""

Update = dict[Any, Any]
"""New values of components."""

_LABELS = {
    "prompt": "What the photo shows",
    "num_inference_steps": "Steps",
    "guidance_scale": "Guidance",
    "size": "Size",
    "boost": "Boost",
}
_POLL = 0.2  # seconds between two looks at a job
_PREVIEW = 768  # the longer side of a preview, pixels


@dataclass(frozen=True)
class Desk:
    """What the tabs of all pages work with.

    Args:
        settings: what fields start from, and what counts where there is no field.
        folder: where results are kept until the program ends.
        save: writes them.
    """

    model: Model
    settings: Settings
    folder: Path
    save: Save
    jobs: Jobs = field(default_factory=Jobs)

    def new_folder(self) -> Path:
        """An empty folder for the files of one result."""
        return Path(tempfile.mkdtemp(dir=self.folder))


def setting_fields(tab: str, settings: Settings, *names: str) -> dict[str, Any]:
    """A field for each of some settings, with the setting's own help."""
    return {name: _setting_field(tab, settings, name) for name in names}


def _setting_field(tab: str, settings: Settings, name: str) -> Any:
    one, value = settings_of(Settings)[name], getattr(settings, name)
    told = {"label": _LABELS[name], "info": one.help, "elem_id": f"{tab}-{name}"}
    if one.kind is bool:
        return gr.Checkbox(value, **told)
    if one.kind is str or one.pattern:
        return gr.Textbox(str(value), max_lines=1, **told)
    return gr.Number(value, precision=0 if one.kind is int else None, **told)


def read_settings(settings: Settings, values: Values) -> Settings:
    """The settings with what a person has filled in. Raises UsageError where that is out of range."""
    filled = {name: values[name] for name in _LABELS if name in values}
    if filled.get("size", "").isdigit():
        filled["size"] = int(filled["size"])
    return replace(settings, **filled)


def _problem(error: Exception, filled: Values) -> str:
    """What the command line would say of an error; files that were sent are called by their names alone."""
    if os.environ.get("INVRECON_DEBUG") == "1":
        traceback.print_exception(error)
    text = sentence(error)
    for value in filled.values():
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, str) and os.path.isabs(path):
                text = text.replace(path, Path(path).name)
    return markup.problem(text)


class Controls:
    """A button that starts a job, one that cancels it, and a place for what is to be said of it."""

    def __init__(self, desk: Desk, label: str, name: str) -> None:
        self._desk, self._name = desk, name
        with gr.Row():
            self._run = gr.Button(label, variant="primary", elem_id=f"{name}-run")
            self._cancel = gr.Button("Cancel", visible=False, elem_id=f"{name}-cancel")
        self.status = gr.HTML(elem_id=f"{name}-status", elem_classes="status", padding=False)

    def start(
        self,
        inputs: Mapping[str, Any],
        work: Callable[[Values, OnProgress], Any],
        show: Callable[[Any], Update],
        outputs: list[Any],
        results: Any,
    ) -> None:
        """Says what the buttons do.

        Args:
            inputs: the fields, by name.
            work: what is done with their values, as a job.
            show: what of its result is shown, on `outputs`; of a generator, of each result as it comes.
            results: the column of `outputs`; hidden until there are results of the newest job.
        """

        def run(request: gr.Request, *values: Any) -> Iterator[Update]:
            filled = dict(zip(inputs, values, strict=True))
            job = self._desk.jobs.add(partial(self._work, work, filled), self._owner(request))
            busy = {self._run: gr.Button(interactive=False), self._cancel: gr.Button(visible=True)}
            yield busy | {results: gr.Column(visible=False)}
            for update in self._follow(job, show):
                yield update | ({results: gr.Column(visible=True)} if len(update) > 1 else {})
            idle = {self._run: gr.Button(interactive=True), self._cancel: gr.Button(visible=False)}
            ended = self._end(job, filled, show)
            yield idle | ended | {results: gr.Column(visible=len(ended) > 1 or bool(job.results))}

        def cancel(request: gr.Request) -> None:
            self._desk.jobs.cancel(self._owner(request))

        quietly = {"show_progress": "hidden", "api_visibility": "private"}
        shown = [self._run, self._cancel, self.status, results, *outputs]
        self._run.click(run, list(inputs.values()), shown, concurrency_limit=None, **quietly)
        self._cancel.click(cancel, queue=False, **quietly)

    def _owner(self, request: gr.Request) -> str:
        return f"{request.session_hash} {self._name}"

    def _work(
        self, work: Callable[[Values, OnProgress], Any], filled: Values, on_progress: OnProgress
    ) -> Any:
        torch.manual_seed(self._desk.settings.seed)  # so that jobs before this one change nothing
        return work(filled, on_progress)

    def _end(self, job: Job, filled: Values, show: Callable[[Any], Update]) -> Update:
        """What is shown of a job that has ended: its result, or only what is to be said."""
        try:
            return {self.status: markup.note("Done.")} | show(job.future.result())
        except (JobCancelledError, CancelledError):
            return {self.status: markup.note("Cancelled.")}
        except Exception as error:
            return {self.status: _problem(error, filled)}

    def _follow(self, job: Job, show: Callable[[Any], Update]) -> Iterator[Update]:
        """What has changed since one looked last: how far the job is, and results that have come."""
        told, seen, ended = "", 0, False
        while not ended:
            ended = job.future.done()
            for one in job.results[seen:]:
                seen += 1
                yield show(one)
            text = markup.progress(dict(job.stages), self._desk.jobs.ahead(job))
            if text != told and not ended:
                yield {self.status: text}
            told = text
            wait([job.future], timeout=_POLL)


def show_upload(
    source: Any, picture: Any, status: Any, shown: Callable[[Any], Any] = lambda rgb: rgb
) -> None:
    """Shows a photo as soon as it is chosen, or says why it can't be used.

    Args:
        source: the field of the file; seed files have no preview.
        picture: where it is shown, as `shown` makes it of the photo.
    """

    def preview(path: str | None) -> Update:
        empty = {picture: None, status: ""}
        if path is None or Path(path).suffix.lower() == ".safetensors":
            return empty
        try:
            rgb = load_photo(Path(path)).rgb
        except Exception as error:
            return empty | {status: _problem(error, {"source": path})}
        rgb.thumbnail((_PREVIEW, _PREVIEW))
        return empty | {picture: shown(rgb)}

    source.change(preview, source, [picture, status], show_progress="hidden", api_visibility="private")
