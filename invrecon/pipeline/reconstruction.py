"""Path in, pictures and seed out: the order of work for `invert` and `reconstruct`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from PIL.Image import Image

from invrecon.config import Settings
from invrecon.core import lbo
from invrecon.core.denoiser import Guided
from invrecon.core.sampling import ddim_inversion, generate
from invrecon.core.schedule import Schedule
from invrecon.errors import InputError, UsageError
from invrecon.image import Canvas, Photo, load_photo, plan_canvas, to_image, to_tensor
from invrecon.metrics import latent_fidelity, psnr, ssim
from invrecon.seedfile import FORMAT, Seed, is_seed_file, load_seed
from invrecon.solve import Outcome

if TYPE_CHECKING:
    from invrecon.models import Model

OnProgress = Callable[[str, int, int], None]
"""Called with (stage, steps done, steps in all)."""


@dataclass(frozen=True)
class Inversion:
    """A photo's seed and what it took to find it; `advice` is a sentence where steps did not converge."""

    seed: Seed
    photo: Photo
    canvas: Canvas
    steps: int
    converged_steps: int
    evaluations: int
    evaluations_per_step: float
    seconds: float
    advice: str | None


@dataclass(frozen=True)
class Reconstruction:
    """What the seed alone gives back. Pictures and figures that need the photo are None for a seed file.

    Args:
        picture: at the photo's own size.
        square: as the model gives it; `original`, `autoencoded` and `ddim` are its peers: the photo on the canvas,
            D(E(x)), and what plain DDIM inversion leads to.
        psnr, ssim: of `square` against `original`, both 8 bits; `encoder_ceiling_db` and `ddim_psnr` likewise.
        latent_fidelity_db: of the regenerated image latents against z_0.
        seconds: for everything, comparisons included.
    """

    seed: Seed
    inversion: Inversion | None
    picture: Image
    square: Image
    original: Image | None
    autoencoded: Image | None
    ddim: Image | None
    psnr: float | None
    ssim: float | None
    encoder_ceiling_db: float | None
    ddim_psnr: float | None
    latent_fidelity_db: float | None
    ddim_latent_fidelity_db: float | None
    seconds: float


def invert(photo: Path | str, model: Model, settings: Settings | None = None, on_progress: OnProgress | None = None) -> Inversion:
    """Finds the seed noise of a photo by Latent Bias Optimization.

    Raises:
        InputError: the photo can't be used.
        UsageError, ModelError: the settings don't fit the model.
    """
    settings = settings or Settings()
    begun = time.monotonic()
    loaded = load_photo(Path(photo))
    canvas = plan_canvas(loaded.rgb.size, settings.size, settings.fit)
    denoiser, schedule = _sampler(model, settings)
    image_latents = model.encode(to_tensor(canvas.place(loaded.rgb)))
    records: list[lbo.StepRecord] = []

    def on_step(record: lbo.StepRecord) -> None:
        records.append(record)
        if on_progress:
            on_progress("inverting", len(records), len(schedule))

    found = lbo.invert(
        denoiser,
        schedule,
        image_latents,
        solver=settings.solver,
        rtol=settings.rtol,
        max_evaluations=settings.max_evaluations,
        on_step=on_step,
    )
    evaluations = sum(record.evaluations for record in records)
    return Inversion(
        seed=Seed(found.latents.cpu(), image_latents.cpu(), _header(model, settings, schedule, loaded, canvas, records)),
        photo=loaded,
        canvas=canvas,
        steps=len(records),
        converged_steps=sum(record.outcome is Outcome.CONVERGED for record in records),
        evaluations=evaluations,
        evaluations_per_step=evaluations / len(records),
        seconds=time.monotonic() - begun,
        advice=_advice(records),
    )


def reconstruct(
    source: Path | str, model: Model, settings: Settings | None = None, on_progress: OnProgress | None = None
) -> Reconstruction:
    """Regenerates a picture from seed noise alone: a photo is inverted first, a seed file speaks for itself.

    A seed file brings its own prompt, steps and guidance; `settings` are for photos.

    Raises:
        InputError: the photo or seed file can't be used, or the seed was made with another model.
        UsageError, ModelError: the settings don't fit the model.
    """
    source, settings = Path(source), settings or Settings()
    begun = time.monotonic()
    if is_seed_file(source):
        return _from_seed(load_seed(source), source, model, begun, on_progress)
    inversion = invert(source, model, settings, on_progress)
    seed, photo, canvas = inversion.seed, inversion.photo, inversion.canvas
    denoiser, schedule = _sampler(model, settings)
    regenerated = generate(denoiser, schedule, seed.latents.to(model.device), _stage(on_progress, "regenerating"))
    image_latents = seed.image_latents.to(model.device)
    plain = ddim_inversion(denoiser, schedule, image_latents, _stage(on_progress, "comparing: DDIM inversion"))
    plain = generate(denoiser, schedule, plain, _stage(on_progress, "comparing: DDIM regeneration"))
    original = canvas.place(photo.rgb)
    square, autoencoded, ddim = (to_image(model.decode(latents)) for latents in (regenerated, image_latents, plain))
    return Reconstruction(
        seed=seed,
        inversion=inversion,
        picture=canvas.restore(square, photo),
        square=square,
        original=original,
        autoencoded=autoencoded,
        ddim=ddim,
        psnr=psnr(original, square),
        ssim=ssim(original, square),
        encoder_ceiling_db=psnr(original, autoencoded),
        ddim_psnr=psnr(original, ddim),
        latent_fidelity_db=latent_fidelity(image_latents, regenerated),
        ddim_latent_fidelity_db=latent_fidelity(image_latents, plain),
        seconds=time.monotonic() - begun,
    )


def _from_seed(seed: Seed, path: Path, model: Model, begun: float, on_progress: OnProgress | None) -> Reconstruction:
    header = seed.header
    if header["fingerprint"] != model.fingerprint:
        raise InputError(f"{path}: made with other weights ({header['model']!r:.80}) than {model.name!r} has; name its model with --model")
    if seed.latents.shape[1] != model.latent_channels:
        raise InputError(f"{path}: damaged seed file, {seed.latents.shape[1]} latent channels where the model has {model.latent_channels}")
    schedule = model.schedule(header["num_inference_steps"])
    if list(schedule.timesteps) != header["timesteps"]:
        raise InputError(f"{path}: its timesteps are not those that {model.name!r} takes in {len(schedule)} steps")
    denoiser = model.denoiser(header["prompt"], header["negative_prompt"], header["guidance_scale"])
    regenerated = generate(denoiser, schedule, seed.latents.to(model.device), _stage(on_progress, "regenerating"))
    picture = to_image(model.decode(regenerated))
    return Reconstruction(
        seed=seed,
        inversion=None,
        picture=picture,
        square=picture,
        original=None,
        autoencoded=None,
        ddim=None,
        psnr=None,
        ssim=None,
        encoder_ceiling_db=None,
        ddim_psnr=None,
        latent_fidelity_db=latent_fidelity(seed.image_latents, regenerated),
        ddim_latent_fidelity_db=None,
        seconds=time.monotonic() - begun,
    )


def _sampler(model: Model, settings: Settings) -> tuple[Guided, Schedule]:
    if settings.size % model.downsampling:
        raise UsageError(f"size must be a multiple of {model.downsampling} for {model.name}, not {settings.size}")
    denoiser = model.denoiser(settings.prompt, settings.negative_prompt, settings.guidance_scale)
    return denoiser, model.schedule(settings.num_inference_steps)


def _stage(on_progress: OnProgress | None, stage: str) -> Callable[[int, int], None] | None:
    return (lambda done, total: on_progress(stage, done, total)) if on_progress else None


def _header(
    model: Model, settings: Settings, schedule: Schedule, photo: Photo, canvas: Canvas, records: list[lbo.StepRecord]
) -> dict[str, object]:
    return {
        "format": FORMAT,
        "model": model.name,
        "fingerprint": model.fingerprint,
        "scheduler": {"class": type(model.scheduler).__name__, "config": dict(model.scheduler.config)},
        "timesteps": list(schedule.timesteps),
        "num_inference_steps": settings.num_inference_steps,
        "prompt": settings.prompt,
        "negative_prompt": settings.negative_prompt,
        "guidance_scale": settings.guidance_scale,
        "dtype": settings.dtype,
        "size": settings.size,
        "solver": settings.solver,
        "rtol": settings.rtol,
        "photo": {"sha256": photo.sha256, "size": list(canvas.photo_size), "fit": canvas.fit, "box": list(canvas.box)},
        "steps": [asdict(record) | {"outcome": record.outcome.name.lower()} for record in records],
        "versions": {name: version(name) for name in ("invrecon", "torch", "diffusers")},
    }


def _advice(records: list[lbo.StepRecord]) -> str | None:
    failed = [record for record in records if record.outcome is not Outcome.CONVERGED]
    if not failed:
        return None
    worst = max(failed, key=lambda record: record.residual)
    return f"{len(failed)} of {len(records)} steps did not converge (worst residual {worst.residual:.1e}): {worst.outcome.value}"
