"""The tab that changes something in a photo."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from invrecon import pipeline
from invrecon.core.sampler import OnProgress
from invrecon.errors import UsageError
from invrecon.pipeline.modes import modes_of
from invrecon.seedfile import ENDING
from invrecon.settings import GUIDANCE, EditSettings
from invrecon.ui.choice import Choice, Result
from invrecon.ui.comparison import Comparison
from invrecon.ui.painting import on_canvas, painting_field, save_mask
from invrecon.ui.tab import Controls, Desk, Update, Values, read_settings, setting_fields, show_upload

if TYPE_CHECKING:
    from invrecon.pipeline import Editing

EVERYWHERE, PAINTED, NAMED = "Everywhere", "Where I paint", "Where the changed words point"

_MODES = {
    "p2p": "p2p: other words, same layout",
    "swap": "swap: freer, the seed alone is kept",
    "masactrl": "masactrl: same looks, other pose",
    "sdedit": "sdedit: partly drawn anew",
    "inject": "inject: the photo's values in attention",
    "flowedit": "flowedit: without a seed",
}


@dataclass(frozen=True)
class _Done:
    source: Path
    folder: Path
    editing: Editing


class EditTab:
    """Fields on the left, results on the right."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        gr.Markdown("Changes something in a photo, and keeps the rest.")
        with gr.Row():
            with gr.Column():
                fields = self._fields()
            with gr.Column():
                controls = Controls(desk, "5. Edit", "edit")
                with gr.Column(visible=False) as results:
                    self.choice = Choice("edit")
                    self.comparison = Comparison("edit")
        show_upload(fields["photo"], self.preview, controls.status)
        show_upload(fields["photo"], fields["painting"], controls.status, on_canvas)
        outputs = [*self.choice.components, *self.comparison.components]
        controls.start(fields, self.work, self.show, outputs, results)

    def _fields(self) -> dict[str, Any]:
        settings = self.desk.settings
        photo = gr.File(label="1. Drop a photo here", elem_id="edit-photo", height=120)
        self.preview = gr.Image(label="Your photo", interactive=False, buttons=[], height=260)
        prompt = gr.Textbox(
            settings.prompt,
            label="2. Say what the photo shows",
            placeholder="a fig on a blue ground",
            elem_id="edit-prompt",
        )
        texts = gr.Textbox(
            label="3. Say what it should show instead",
            placeholder="a fig on a red ground",
            info="Several lines give several results.",
            lines=2,
            elem_id="edit-to",
        )
        place = gr.Radio(
            [EVERYWHERE, PAINTED, NAMED],
            value=EVERYWHERE,
            label="4. Where may it change?",
            elem_id="edit-place",
        )
        painting = painting_field("edit-painting")
        keep = gr.Checkbox(False, label="Keep the photo's own pixels elsewhere", visible=False)

        def show_place(chosen: str) -> Update:
            painted = chosen == PAINTED
            return {
                painting: gr.ImageEditor(visible=painted),
                self.preview: gr.Image(visible=not painted),
                keep: gr.Checkbox(visible=chosen != EVERYWHERE),
            }

        outputs = [painting, self.preview, keep]
        place.change(show_place, place, outputs, show_progress="hidden", api_visibility="private")
        with gr.Accordion("Settings", open=False, elem_id="edit-settings"):
            seed = gr.File(label="The photo's seed file, if you have one: saves the inversion", height=120)
            able = modes_of(self.desk.model, settings.sampler)
            modes = gr.CheckboxGroup(
                [(_MODES[mode], mode) for mode in able],
                value=able[:1],
                label="Mode",
                info="How the result is tied to the photo. Several give several results.",
                elem_id="edit-mode",
            )
            guidance = gr.Textbox(
                f"{GUIDANCE:g}",
                label="Guidance",
                info="How strongly the new words count, from 1. Several, as in 3, 5, give several results.",
                elem_id="edit-guidance",
            )
            more = setting_fields("edit", settings, "num_inference_steps", "size", "boost")
        named = {"photo": photo, "prompt": prompt, "texts": texts, "place": place, "painting": painting}
        return named | {"keep": keep, "seed": seed, "modes": modes, "guidance": guidance} | more

    def work(self, values: Values, on_progress: OnProgress) -> _Done:
        """The edits, one for each combination of text, mode and guidance."""
        photo, seed = values["photo"], values["seed"]
        if not (photo or seed):
            raise UsageError("drop a photo into the field on the left first")
        edits, folder, mask = _edits(values), self.desk.new_folder(), None
        settings = read_settings(self.desk.settings, values)
        if values["place"] == PAINTED:
            if not photo:
                raise UsageError("drop the photo into the field on the left, to paint over it")
            mask = folder / "mask.png"
            save_mask(values["painting"], Path(photo), mask)
        editing = pipeline.edit(
            seed or photo,
            self.desk.model,
            edits,
            settings,
            on_progress,
            photo=photo if seed else None,
            mask=mask,
        )
        return _Done(Path(photo or seed), folder, editing)

    def show(self, done: _Done) -> Update:
        """All results, and the first beside the photo."""
        editing, stem, results = done.editing, done.source.stem.removesuffix(".seed"), []
        shown = {"photo": editing.original, "plain reconstruction": editing.reconstruction}
        shown |= {"mask": editing.edits[0].mask}
        for number, one in enumerate(editing.edits, 1):
            picture, seed = (done.folder / f"{stem}.edit-{number}{end}" for end in (".png", ENDING))
            sha256, caption = "", f"{number}: {one.settings.to} ({one.settings.label()})"
            if one.seed:
                sha256 = self.desk.save.seed(one.seed, seed)
            self.desk.save.png(one.picture, picture, one.header, "edit", sha256)
            results.append(Result(picture, seed if one.seed else None, caption))
            shown[f"result {number}"] = one.square
        rows = [("Plain reconstruction: PSNR, dB (more is nearer to the photo)", editing.psnr, ".2f")]
        rows.append(("Seconds", editing.seconds, ".1f"))
        return self.choice.show(results) | self.comparison.show(shown, done.folder, rows, editing.advice)


def _edits(values: Values) -> list[EditSettings]:
    texts = [line.strip() for line in values["texts"].splitlines() if line.strip()]
    if not texts:
        raise UsageError("say what the picture should show instead")
    if not values["modes"]:
        raise UsageError("choose a mode in the settings")
    scales = [_number(text) for text in values["guidance"].replace(",", " ").split()]
    if not scales:
        raise UsageError("give guidance a number in the settings")
    return [
        EditSettings(
            to=to,
            mode=mode,
            guidance_scale=scale,
            auto_mask=values["place"] == NAMED,
            keep_original=values["keep"] and values["place"] != EVERYWHERE,
        )
        for to, mode, scale in product(texts, values["modes"], scales)
    ]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"guidance must be a number, or several, as in 3, 5; not {text!r}") from error
