"""The tab that makes new pictures of what some photos show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from invrecon import pipeline
from invrecon.core.sampler import OnProgress
from invrecon.errors import UsageError
from invrecon.image import save_gif
from invrecon.seedfile import ENDING
from invrecon.settings import Imagining, settings_of
from invrecon.ui.choice import Choice, Result
from invrecon.ui.tab import Controls, Desk, Update, Values, read_settings, setting_fields

if TYPE_CHECKING:
    from PIL.Image import Image

    from invrecon.pipeline import Imagined

AROUND, PATH = "New pictures around the photos", "The way from the first photo to the second"


@dataclass(frozen=True)
class _Done:
    results: list[Result]
    newest: Image
    animation: Path | None = None


class ImagineTab:
    """Fields on the left, new pictures on the right."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        gr.Markdown("Makes new pictures of what a few photos show, or the way from one photo to another.")
        with gr.Row():
            with gr.Column():
                fields = self._fields()
            with gr.Column():
                controls = Controls(desk, "4. Imagine", "imagine")
                with gr.Column(visible=False) as results:
                    self.choice = Choice("imagine")
                    self.animation = gr.Image(
                        label="The way as an animation",
                        type="filepath",
                        format="gif",
                        interactive=False,
                        buttons=["download"],
                        height=300,
                        elem_id="imagine-animation",
                    )
        outputs = [*self.choice.components, self.animation]
        controls.start(fields, self.work, self.show, outputs, results)

    def _fields(self) -> dict[str, Any]:
        settings, help = self.desk.settings, settings_of(Imagining)
        photos = gr.File(
            label="1. Drop photos here", file_count="multiple", elem_id="imagine-photos", height=160
        )
        prompt = setting_fields("imagine", settings, "prompt")
        prompt["prompt"].label = "2. Say what they show"
        kind = gr.Radio([AROUND, PATH], value=AROUND, label="3. Choose what to make", elem_id="imagine-kind")
        around = {
            "count": gr.Number(
                4, label="How many", precision=0, info=help["count"].help, elem_id="imagine-count"
            ),
            "spread": gr.Slider(0, 1, Imagining.spread, step=0.05, label="How new", info=help["spread"].help),
        }
        frames = gr.Number(
            Imagining.frames,
            label="How many",
            precision=0,
            info="Pictures on the way, its ends among them.",
            visible=False,
            elem_id="imagine-frames",
        )

        def show_kind(chosen: str) -> Update:
            shown = {gr.Number: around["count"], gr.Slider: around["spread"]}
            return {one: kind(visible=chosen == AROUND) for kind, one in shown.items()} | {
                frames: gr.Number(visible=chosen == PATH)
            }

        outputs = [*around.values(), frames]
        kind.change(show_kind, kind, outputs, show_progress="hidden", api_visibility="private")
        with gr.Accordion("Settings", open=False, elem_id="imagine-settings"):
            more = setting_fields("imagine", settings, "num_inference_steps", "guidance_scale", "size")
        return {"photos": photos, "kind": kind, "frames": frames} | prompt | around | more

    def work(self, values: Values, on_progress: OnProgress) -> Iterator[_Done]:
        """New pictures, or those of a path, as they come."""
        photos, model = values["photos"] or [], self.desk.model
        settings = read_settings(self.desk.settings, values)
        if values["kind"] == AROUND:
            if not photos:
                raise UsageError("drop photos into the field on the left first")
            imagining = Imagining(count=values["count"], spread=values["spread"])
            yield from self._keep(
                "imagine", pipeline.imagine(photos, model, settings, imagining, on_progress)
            )
            return
        if len(photos) != 2:
            raise UsageError(f"a way leads from one photo to another: drop two, not {len(photos)}")
        imagining, pictures = Imagining(frames=values["frames"]), []
        way = pipeline.interpolate(photos[0], photos[1], model, settings, imagining, on_progress)
        for done in self._keep("path", way):
            pictures.append(done.newest)
            yield done
        animation = done.results[0].picture.with_name("path.gif")
        save_gif(pictures, animation)
        yield replace(done, animation=animation)

    def _keep(self, name: str, pictures: Iterable[Imagined]) -> Iterator[_Done]:
        """Writes pictures and their seeds, and yields all so far."""
        folder, results = self.desk.new_folder(), []
        for number, one in enumerate(pictures, 1):
            picture, seed = (folder / f"{name}-{number:02}{ending}" for ending in (".png", ENDING))
            sha256 = self.desk.save.seed(one.seed, seed)
            self.desk.save.png(one.picture, picture, one.seed.header, "imagined", sha256)
            results.append(Result(picture, seed, str(number)))
            yield _Done(list(results), one.picture)

    def show(self, done: _Done) -> Update:
        """The pictures so far, and in the end a path as an animation."""
        animation = gr.Image(done.animation and str(done.animation), visible=done.animation is not None)
        return self.choice.show(done.results, more=len(done.results) > 1) | {self.animation: animation}
