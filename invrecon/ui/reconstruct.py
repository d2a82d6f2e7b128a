"""The tab that finds a photo's seed and regenerates the photo from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from invrecon import pipeline
from invrecon.core.sampler import OnProgress
from invrecon.errors import UsageError
from invrecon.pipeline.about import kind_of
from invrecon.seedfile import ENDING
from invrecon.ui.comparison import Comparison
from invrecon.ui.tab import Controls, Desk, Update, Values, read_settings, setting_fields, show_upload

if TYPE_CHECKING:
    from invrecon.pipeline import Reconstruction


class ReconstructTab:
    """Fields on the left, results on the right."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        gr.Markdown(
            "Finds the noise that gives your photo back, and makes the picture from that noise alone."
        )
        with gr.Row():
            with gr.Column():
                source = gr.File(label="1. Drop a photo here", elem_id="reconstruct-source", height=120)
                preview = gr.Image(label="Your photo", interactive=False, buttons=[], height=260)
                with gr.Accordion("Settings", open=False, elem_id="reconstruct-settings"):
                    names = ("prompt", "num_inference_steps", "guidance_scale", "size", "boost")
                    fields = setting_fields("reconstruct", desk.settings, *names)
            with gr.Column():
                controls = Controls(desk, "2. Reconstruct", "reconstruct")
                with gr.Column(visible=False) as results:
                    self.comparison = Comparison("reconstruct")
                    with gr.Row():
                        self.picture = gr.DownloadButton("Save picture", elem_id="reconstruct-picture")
                        self.seed = gr.DownloadButton("Save seed file", elem_id="reconstruct-seed")
        show_upload(source, preview, controls.status)
        outputs = [*self.comparison.components, self.picture, self.seed]
        controls.start({"source": source} | fields, self.work, self.show, outputs, results)

    def work(self, values: Values, on_progress: OnProgress) -> tuple[Path, Reconstruction]:
        """The photo's path and its reconstruction."""
        if not values["source"]:
            raise UsageError("drop a photo into the field on the left first")
        source = Path(values["source"])
        settings = read_settings(self.desk.settings, values)
        return source, pipeline.reconstruct(source, self.desk.model, settings, on_progress)

    def show(self, done: tuple[Path, Reconstruction]) -> Update:
        """Pictures, figures and files of a reconstruction."""
        source, result = done
        stem, folder = source.stem.removesuffix(".seed"), self.desk.new_folder()
        picture, seed = folder / f"{stem}.recon.png", folder / f"{stem}{ENDING}"
        sha256 = self.desk.save.seed(result.seed, seed)
        self.desk.save.png(result.picture, picture, result.seed.header, kind_of(result.seed), sha256)
        pictures = {
            "photo": result.original,
            "autoencoder only": result.autoencoded,
            "DDIM inversion": result.ddim,
            "invrecon": result.square,
        }
        shown = self.comparison.show(pictures, folder, _figures(result), result.advice)
        return shown | {self.picture: str(picture), self.seed: str(seed)}


def _figures(result: Reconstruction) -> list[tuple[str, Any, str]]:
    inversion = result.inversion
    return [
        ("invrecon: PSNR, dB (more is nearer to the photo)", result.psnr, ".2f"),
        ("Autoencoder only: PSNR, dB", result.encoder_ceiling_db, ".2f"),
        ("DDIM inversion: PSNR, dB", result.ddim_psnr, ".2f"),
        ("invrecon at the photo's own size: PSNR, dB", result.psnr_photo, ".2f"),
        ("invrecon: SSIM (1 is the photo itself)", result.ssim, ".4f"),
        ("Latent fidelity, dB", result.latent_fidelity_db, ".1f"),
        ("Network evaluations a step", inversion and inversion.evaluations_per_step, ".1f"),
        ("Seconds", result.seconds, ".1f"),
    ]
