"""From a photo or a seed file to the picture that the seed alone gives, with the figures that judge it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL.Image import Image
from torch import Tensor

from invrecon.core import ilb
from invrecon.core.ilb import Regenerating
from invrecon.core.sampling import generate
from invrecon.errors import InputError, InvreconError, UsageError
from invrecon.formats import is_seed_file
from invrecon.image import load_photo, to_image
from invrecon.metrics import latent_fidelity, psnr, ssim
from invrecon.pipeline.answering import Answering, Retracing, only, work_on
from invrecon.pipeline.groundwork import OnProgress, stage
from invrecon.pipeline.inversion import Inversion, inverting
from invrecon.seedfile import Seed, load_seed, sampler_of
from invrecon.settings import Settings
from invrecon.solve import Talk

if TYPE_CHECKING:
    from invrecon.models import Model


@dataclass(frozen=True)
class Reconstruction:
    """What the seed alone gives back. Pictures and figures that need the photo are None for a seed file.

    Args:
        picture: at the photo's own size.
        square: as the model gives it; `original`, `autoencoded` and `ddim` are its peers: the photo on the canvas,
            D(E(x)), and what plain DDIM inversion leads to.
        psnr, ssim: of `square` against `original`, both 8 bits; `encoder_ceiling_db` and `ddim_psnr` likewise.
        lbo_psnr, ilb_psnr: with one method alone: LBO of E(x), and the boosted latents by plain DDIM inversion.
        decoder_ceiling_db: the best that the decoder can give, where the settings ask for it.
        latent_fidelity_db: of the regenerated image latents against z_0, boosted or not.
        seconds: for everything, comparisons included; in a batch, the photo's share.
    """

    seed: Seed
    inversion: Inversion | None
    picture: Image
    square: Image
    latent_fidelity_db: float
    original: Image | None = None
    autoencoded: Image | None = None
    ddim: Image | None = None
    psnr: float | None = None
    ssim: float | None = None
    encoder_ceiling_db: float | None = None
    decoder_ceiling_db: float | None = None
    ddim_psnr: float | None = None
    lbo_psnr: float | None = None
    ilb_psnr: float | None = None
    ddim_latent_fidelity_db: float | None = None
    seconds: float = math.nan


def reconstruct(
    source: Path | str, model: Model, settings: Settings | None = None, on_progress: OnProgress | None = None
) -> Reconstruction:
    """Regenerates a picture from seed noise alone: a photo is inverted first, a seed file speaks for itself.

    A seed file brings its own prompt, steps and guidance; `settings` are for photos.

    Raises:
        InputError: the photo or seed file can't be used, or the seed was made with another model.
        UsageError, ModelError: the settings don't fit the model.
    """
    source, begun = Path(source), time.monotonic()
    if not is_seed_file(source):
        return only(reconstruct_batch([source], model, settings, on_progress))
    result = _from_seed(load_seed(source), source, model, on_progress)
    return replace(result, seconds=time.monotonic() - begun)


def reconstruct_batch(
    photos: Sequence[Path | str],
    model: Model,
    settings: Settings | None = None,
    on_progress: OnProgress | None = None,
) -> list[Reconstruction | InvreconError]:
    """`reconstruct` for several photos at once: see `invert_batch`, which returns and raises alike."""
    return work_on(photos, _reconstructing, model, settings or Settings(), on_progress)


def boost(
    source: Path | str,
    model: Model,
    settings: Settings | None = None,
    on_progress: OnProgress | None = None,
    *,
    photo: Path | str | None = None,
) -> Reconstruction:
    """Boosts the image latents of a photo, or of a seed file that was made from `photo`, and regenerates it from the new seed.

    Raises:
        InputError: `source` or `photo` can't be used, or don't belong together.
        UsageError, ModelError: the settings don't fit the model, or a seed file comes without its photo.
    """
    source, settings = Path(source), settings or Settings()
    if is_seed_file(source):
        if photo is None:
            raise UsageError(
                f"{source}: boosting a seed needs the photo that it was made from: give it with --photo"
            )
        settings = _settings_of(load_seed(source), source, Path(photo), model, settings)
    return reconstruct(photo or source, model, replace(settings, boost=True), on_progress)


def check_model(seed: Seed, path: Path, model: Model) -> None:
    """Raises InputError where `seed` was not made with the weights of `model`."""
    header = seed.header
    if header["fingerprint"] != model.fingerprint:
        raise InputError(
            f"{path}: made with other weights ({header['model']!r:.80}) than {model.name!r} has; name its model with --model"
        )
    if seed.latents.shape[1] != model.latent_channels:
        raise InputError(
            f"{path}: damaged seed file, {seed.latents.shape[1]} latent channels where the model has {model.latent_channels}"
        )
    timesteps = (
        model.with_sampler(sampler_of(header))
        .schedule(header["num_inference_steps"], header["size"])
        .timesteps
    )
    if list(timesteps) != header["timesteps"]:
        raise InputError(
            f"{path}: its timesteps are not those that {model.name!r} takes in {len(timesteps)} steps"
        )


def check_photo(seed: Seed, path: Path, photo: Path) -> None:
    """Raises InputError where `seed` was not made from the file `photo`."""
    origin = seed.header.get("photo")
    if not isinstance(origin, dict):
        raise InputError(f"{path}: belongs to no photo; `invrecon reconstruct` gives its picture")
    if origin.get("sha256") != load_photo(photo).sha256:
        raise InputError(f"{path}: was not made from {photo}")


def _settings_of(seed: Seed, path: Path, photo: Path, model: Model, settings: Settings) -> Settings:
    check_model(seed, path, model)
    check_photo(seed, path, photo)
    header = seed.header
    names = ("prompt", "negative_prompt", "num_inference_steps", "guidance_scale", "size")
    taken: dict[str, Any] = {name: header[name] for name in names} | {
        "sampler": sampler_of(header),
        "auto_guidance": False,
    }
    return replace(settings, fit=header["photo"]["fit"], **taken)


def _reconstructing(
    photo: Path, model: Model, answering: Answering, on_progress: OnProgress | None
) -> Talk[Reconstruction]:
    inversion = yield from inverting(photo, model, answering, on_progress)
    return (yield from _judging(inversion, model, answering.settings))


def _judging(inversion: Inversion, model: Model, settings: Settings) -> Talk[Reconstruction]:
    """Regenerates, and sets the result beside plain DDIM inversion, each method alone, and the ceilings."""
    seed, subject, boosted = inversion.seed, inversion.subject, inversion.boosted

    def by_ddim(image_latents: Tensor) -> Talk[Tensor]:
        noise = yield Retracing(image_latents)
        return (yield Regenerating(noise))

    @torch.no_grad()
    def picture(image_latents: Tensor) -> Image:
        return to_image(model.decode(image_latents))

    def score(image_latents: Tensor) -> float:
        return psnr(subject.original, picture(image_latents))

    regenerated = boosted.regenerated if boosted else (yield Regenerating(seed.latents.to(model.device)))
    plain = yield from by_ddim(subject.encoded)
    boosted_by_ddim = (yield from by_ddim(boosted.image_latents)) if boosted else None
    square, autoencoded, ddim = picture(regenerated), picture(subject.encoded), picture(plain)
    final = psnr(subject.original, square)
    ceiling = (
        ilb.decoder_ceiling(model.decode, subject.encoded, subject.pixels, score)
        if settings.decoder_ceiling
        else None
    )
    return Reconstruction(
        seed=seed,
        inversion=inversion,
        picture=subject.canvas.restore(square, subject.photo),
        square=square,
        original=subject.original,
        autoencoded=autoencoded,
        ddim=ddim,
        psnr=final,
        ssim=ssim(subject.original, square),
        encoder_ceiling_db=psnr(subject.original, autoencoded),
        decoder_ceiling_db=ceiling,
        ddim_psnr=psnr(subject.original, ddim),
        lbo_psnr=boosted.rounds[0].psnr if boosted else final,
        ilb_psnr=None if boosted_by_ddim is None else score(boosted_by_ddim),
        latent_fidelity_db=latent_fidelity(seed.image_latents, regenerated),
        ddim_latent_fidelity_db=latent_fidelity(subject.encoded, plain),
    )


def _from_seed(seed: Seed, path: Path, model: Model, on_progress: OnProgress | None) -> Reconstruction:
    check_model(seed, path, model)
    header = seed.header
    model = model.with_sampler(sampler_of(header))
    denoiser = model.denoiser(header["prompt"], header["negative_prompt"], header["guidance_scale"])
    schedule = model.schedule(header["num_inference_steps"], header["size"])
    regenerated = generate(
        denoiser, schedule, seed.latents.to(model.device), stage(on_progress, "regenerating")
    )
    with torch.no_grad():
        square = to_image(model.decode(regenerated))
    return Reconstruction(seed, None, square, square, latent_fidelity(seed.image_latents, regenerated))
