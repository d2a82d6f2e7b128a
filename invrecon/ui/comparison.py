"""A slider between any two of some pictures, and figures below it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from PIL.Image import Image

from invrecon.image import save_png
from invrecon.ui import markup
from invrecon.ui.tab import Update


class Comparison:
    """Two pictures, one over the other, with an edge to drag; a choice of which two; a table of figures."""

    def __init__(self, name: str) -> None:
        self._pictures = gr.State({})
        self._slider = gr.ImageSlider(
            label="Drag the edge to compare",
            type="filepath",
            format="png",
            interactive=False,
            buttons=["fullscreen"],
            max_height=640,
            elem_id=f"{name}-slider",
        )
        with gr.Row():
            sides = [
                gr.Radio([], label=side, visible=False, min_width=140, elem_id=f"{name}-{side.lower()}")
                for side in ("Left", "Right")
            ]
        self._left, self._right = sides
        for side in sides:
            side.input(
                lambda pictures, left, right: (pictures[left], pictures[right]),
                [self._pictures, *sides],
                self._slider,
                show_progress="hidden",
                api_visibility="private",
            )
        self._figures = gr.HTML(elem_id=f"{name}-figures", elem_classes="figures")
        self.components = [self._pictures, self._slider, *sides, self._figures]

    def show(
        self,
        pictures: Mapping[str, Image | None],
        folder: Path,
        figures: Sequence[tuple[str, Any, str]],
        advice: str | None,
    ) -> Update:
        """Compares the first with the last of some pictures.

        Args:
            pictures: by name; None where there is none.
            folder: where they are kept.
            figures: their names, values and formats.
            advice: what a person should know besides.
        """
        paths: dict[str, Any] = {}
        for name, picture in pictures.items():
            if picture:
                paths[name] = str(folder / f"{name}.png")
                save_png(picture, Path(paths[name]))
        names = list(paths)
        ends = (paths[names[0]], paths[names[-1]])
        chosen = {self._left: names[0], self._right: names[-1]}
        radios = {side: gr.Radio(names, value=name, visible=len(names) > 1) for side, name in chosen.items()}
        told = markup.table(figures) + (markup.note(f"Note: {advice}") if advice else "")
        return radios | {self._pictures: paths, self._slider: ends, self._figures: told}
