"""The tab that asks stock diffusers whether a seed file gives its photo back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from invrecon import pipeline
from invrecon.core.sampler import OnProgress
from invrecon.errors import UsageError
from invrecon.ui.comparison import Comparison
from invrecon.ui.tab import Controls, Desk, Update, Values, show_upload

if TYPE_CHECKING:
    from invrecon.pipeline import Verification


class VerifyTab:
    """A seed file and its photo on the left, the stock pipeline's picture on the right."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        gr.Markdown(
            "Lets diffusers' own pipeline make the picture of a seed file, and compares it with the photo."
        )
        with gr.Row():
            with gr.Column():
                seed = gr.File(label="1. Drop a seed file here", elem_id="verify-seed", height=120)
                photo = gr.File(label="2. Drop its photo here", elem_id="verify-photo", height=120)
                preview = gr.Image(label="Your photo", interactive=False, buttons=[], height=260)
            with gr.Column():
                controls = Controls(desk, "3. Verify", "verify")
                with gr.Column(visible=False) as results:
                    self.comparison = Comparison("verify")
        show_upload(photo, preview, controls.status)
        fields = {"seed": seed, "photo": photo}
        controls.start(fields, self.work, self.show, self.comparison.components, results)

    def work(self, values: Values, on_progress: OnProgress) -> Verification:
        """What the stock pipeline makes of the seed."""
        if not (values["seed"] and values["photo"]):
            raise UsageError("drop a seed file and the photo that it was made from into the fields first")
        return pipeline.verify(values["seed"], values["photo"], self.desk.model, on_progress)

    def show(self, result: Verification) -> Update:
        """The picture beside the photo, and where the loss comes from."""
        losses = result.losses
        rows = [
            ("By diffusers: PSNR, dB (more is nearer to the photo)", result.psnr, ".2f"),
            ("By diffusers: SSIM (1 is the photo itself)", result.ssim, ".4f"),
            ("Latent fidelity, dB", result.latent_fidelity_db, ".1f"),
            ("PSNR after the autoencoder, dB", losses.encoder, ".2f"),
            ("PSNR after boosting, dB", losses.boosting, ".2f"),
            ("PSNR after the way to the seed and back, dB", losses.trajectory, ".2f"),
            ("PSNR with guidance, dB", losses.guidance, ".2f"),
            ("PSNR of the 8-bit picture, dB", losses.eight_bits, ".2f"),
        ]
        pictures = {
            "photo": result.subject.original if result.subject else None,
            "by diffusers": result.picture,
        }
        return self.comparison.show(pictures, self.desk.new_folder(), rows, result.advice)
