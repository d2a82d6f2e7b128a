"""What tests of the command line share: a pipeline that works at once, photos, ways to run and to read."""

import json
from pathlib import Path
from types import SimpleNamespace

import torch
from PIL import Image
from typer.testing import CliRunner

from invrecon.cli.app import app
from invrecon.core.health import Health
from invrecon.errors import InvreconError, ModelError, UsageError
from invrecon.image import plan_canvas
from invrecon.pipeline.verification import Losses, Variant, Verification
from invrecon.seedfile import Seed

FILES = ["output", "seed_file", "compare_file"]
QUALITY = [
    "psnr",
    "psnr_photo",
    "ssim",
    "encoder_ceiling_db",
    "decoder_ceiling_db",
    "ddim_psnr",
    "lbo_psnr",
    "ilb_psnr",
]
LATENTS = ["latent_fidelity_db", "ddim_latent_fidelity_db"]
EFFORT = ["effort", "steps", "converged_steps", "evaluations", "evaluations_per_step"]
HEALTH = [
    f"{plain}seed_{name}" for name in ("norm", "autocorrelation", "normality") for plain in ("plain_", "")
]
FIELDS = [
    "input",
    *FILES,
    *QUALITY,
    *LATENTS,
    *EFFORT,
    *HEALTH,
    "seconds",
    "peak_memory_mb",
    "seen",
    "tiling",
    "guidance_scale",
    "guidance_curve",
    "resumed",
    "error",
]


SUBJECT = SimpleNamespace(  # a photo of 640 x 480
    canvas=plan_canvas((640, 480), 256, "whole"), photo=SimpleNamespace(rgb=Image.new("RGB", (640, 480)))
)


class Pipeline:
    """Stands in for models and pipeline; notes what it was asked, raises what a test plants for a name."""

    def __init__(self):
        self.loaded, self.done, self.settings, self.raises = [], [], None, {}
        self.before = lambda: None  # what happens while a photo is done
        self.psnr, self.advice, self.photo, self.batches = 30.0, None, None, []
        self.dtypes = []  # of the models that seeds and photos were reconstructed with

    def load_model(self, name, device="auto", dtype="float32", **places):
        self.loaded.append((name, device, dtype))
        self.places = places
        if name == "nosuch":
            raise ModelError("no model 'nosuch'")
        return SimpleNamespace(name=name, fingerprint="0", device="cpu", dtype=dtype)

    def invert(self, photo, model, settings, on_progress=None):
        self.settings = settings
        self.done.append(photo.name)
        self.before()
        on_progress("inverting", 1, 2)
        if photo.name in self.raises:
            raise self.raises[photo.name]
        seed = Seed(torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 8, 8), header())
        effort = {
            "effort": getattr(settings, "effort", None),  # of several photos, each has settings of its own
            "steps": 50,
            "converged_steps": 49,
            "evaluations": 400,
            "evaluations_per_step": 8.0,
            "seconds": 1.5,
        }
        return SimpleNamespace(
            seed=seed,
            subject=SUBJECT,
            guidance=None,
            **effort,
            health=Health(1.0, 0.0, 0.01),
            plain_health=Health(1.1, 0.1, 0.02),
            advice=self.advice,
        )

    def invert_batch(self, photos, model, settings, on_progress=None):
        self.batches.append([photo.name for photo in photos])
        return [self.attempt(self.invert, photo, model, settings, on_progress) for photo in photos]

    def reconstruct_batch(self, photos, model, settings, on_progress=None):
        self.batches.append([photo.name for photo in photos])
        return [self.attempt(self.reconstruct, photo, model, settings, on_progress) for photo in photos]

    def attempt(self, work, *arguments):
        try:
            return work(*arguments)
        except InvreconError as error:
            if isinstance(error, (UsageError, ModelError)):
                raise
            return error

    def reconstruct(self, source, model, settings, on_progress=None):
        inversion = self.invert(source, model, settings, on_progress)
        self.dtypes.append(model.dtype)
        square = Image.new("RGB", (16, 16), "red")
        common = {
            "seed": inversion.seed,
            "picture": square,
            "square": square,
            "latent_fidelity_db": 60.0,
            "seconds": 2.5,
            "tiling": False,
            "advice": self.advice,
        }
        figures = {
            "psnr": self.psnr,
            "psnr_photo": 28.0,
            "ssim": 0.9,
            "encoder_ceiling_db": 31.0,
            "ddim_psnr": 20.0,
            "ddim_latent_fidelity_db": 12.0,
        }
        figures |= {"lbo_psnr": 29.0, "ilb_psnr": 21.0, "decoder_ceiling_db": None}
        of_photos = figures | {
            "inversion": inversion,
            "original": square,
            "autoencoded": square,
            "ddim": square,
        }
        return SimpleNamespace(
            **common, **(dict.fromkeys(of_photos) if source.suffix == ".safetensors" else of_photos)
        )

    def boost(self, source, model, settings, on_progress=None, *, photo=None):
        self.photo = photo
        return self.reconstruct(photo or source, model, settings, on_progress)

    def verify(self, seed_file, photo, model, on_progress=None, *, matrix=False, dtype="float32"):
        self.verified_in = dtype
        self.done.append(seed_file.name)
        losses = Losses(27.0, 29.0, 28.9, 28.8, 28.7)
        variants = (
            [Variant("DDIM", 5, "float32", 20.0), Variant("Euler", 10, "float32", float("nan"))]
            if matrix
            else []
        )
        picture = Image.new("RGB", (16, 16))
        told = {"psnr_photo": 29.5, "subject": SUBJECT, "advice": self.advice}
        return Verification(picture, self.psnr, 0.9, 60.0, losses, 1.0, variants, **told)


def header(**changes):
    settings = {"prompt": "", "negative_prompt": "", "guidance_scale": 1.0, "num_inference_steps": 1}
    settings |= {"sampler": "ddim", "dtype": "float32", "width": 64, "height": 64, "tiling": False}
    model = {"format": 2, "model": "mini", "fingerprint": "0", "scheduler": {}, "timesteps": [1]}
    return model | settings | changes


def photo(name: str) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), "red").save(name, format="PNG")
    return name


def picture(name: str) -> Image.Image:
    with Image.open(name) as image:
        return image.convert("RGB")


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def rows(result) -> list[dict]:
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in result.stdout.splitlines()]
