"""Several results side by side, of which a person saves the one that pleases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from invrecon.ui.tab import Update


@dataclass(frozen=True)
class Result:
    """A picture and its seed file, if it has one, with what is said of them."""

    picture: Path
    seed: Path | None
    caption: str


class Choice:
    """A gallery, and buttons that save what is chosen in it."""

    def __init__(self, name: str) -> None:
        self._results = gr.State([])
        self._gallery = gr.Gallery(
            label="Results: click one to choose it",
            columns=2,
            object_fit="contain",
            format="png",
            interactive=False,
            buttons=["fullscreen"],
            preview=False,
            height="auto",
            elem_id=f"{name}-gallery",
        )
        with gr.Row():
            self._picture = gr.DownloadButton(elem_id=f"{name}-picture")
            self._seed = gr.DownloadButton(elem_id=f"{name}-seed")
        self.components = [self._results, self._gallery, self._picture, self._seed]

        def choose(results: list[tuple[str, str | None]], event: gr.SelectData) -> Update:
            return self._buttons(results, event.index)

        self._gallery.select(
            choose,
            self._results,
            [self._picture, self._seed],
            show_progress="hidden",
            api_visibility="private",
        )

    def show(self, results: Sequence[Result], more: bool = False) -> Update:
        """Shows results, the first of them chosen.

        Args:
            more: they are those that were shown and one more; what was chosen stays so.
        """
        files = [(str(one.picture), str(one.seed) if one.seed else None) for one in results]
        pictures = [(str(one.picture), one.caption) for one in results]
        shown = {self._results: files, self._gallery: gr.Gallery(pictures, selected_index=None)}
        # The first of two was the only choice; its buttons get a number now.
        return shown if more and len(files) > 2 else shown | self._buttons(files, 0)

    def _buttons(self, files: list[tuple[str, str | None]], number: int) -> Update:
        place = f" {number + 1}" if len(files) > 1 else ""
        picture, seed = files[number]
        return {
            self._picture: gr.DownloadButton(f"Save picture{place}", picture),
            self._seed: gr.DownloadButton(f"Save seed file{place}", seed, visible=seed is not None),
        }
