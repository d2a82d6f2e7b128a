"""From a photo or a seed file to the picture that the seed alone gives, with the figures that judge it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL.Image import Image
from torch import Tensor

from invrecon.core.descent import decoder_ceiling
from invrecon.core.sampler import OnProgress
from invrecon.errors import InvreconError, UsageError
from invrecon.metrics import latent_fidelity, psnr, ssim
from invrecon.pipeline.inversion import PhotoInversion, invert_subjects
from invrecon.pipeline.run import Run, only, run_photos
from invrecon.pipeline.seeds import check_model, check_photo
from invrecon.pipeline.subject import Subject, decode
from invrecon.seedfile import Seed, is_seed_file, load_seed
from invrecon.settings import Settings

if TYPE_CHECKING:
    from invrecon.models import Model


@dataclass(frozen=True)
class Reconstruction:
    """What the seed alone gives back. Pictures and figures that need the photo are None for a seed file.

    Args:
        picture: at the photo's own size.
        square: as the model gives it; `original`, `autoencoded` and `ddim` are its peers: the photo on the
            canvas, D(E(x)), and what plain DDIM inversion leads to.
        psnr, ssim: of `square` against `original`, both 8 bits.
        encoder_ceiling_db, ddim_psnr: of `autoencoded` and of `ddim` against `original`, dB.
        lbo_psnr, ilb_psnr: with one method alone: LBO of E(x), and the boosted latents by plain DDIM
            inversion.
        decoder_ceiling_db: the best that the decoder can give, where the settings ask for it.
        latent_fidelity_db: of the regenerated image latents against z_0, boosted or not.
        seconds: for everything, comparisons included; in a batch, the photo's share.
    """

    seed: Seed
    inversion: PhotoInversion | None
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
    return run_photos(photos, _work, model, settings or Settings(), on_progress)


def boost(
    source: Path | str,
    model: Model,
    settings: Settings | None = None,
    on_progress: OnProgress | None = None,
    *,
    photo: Path | str | None = None,
) -> Reconstruction:
    """Boosts a photo, or a seed file that was made from `photo`, and regenerates it from the new seed.

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


def _settings_of(seed: Seed, path: Path, photo: Path, model: Model, settings: Settings) -> Settings:
    check_model(seed, path, model)
    check_photo(seed, path, photo)
    return replace(settings, fit=seed.header["photo"]["fit"], auto_guidance=False, **asdict(seed.recipe))


def _work(run: Run, subjects: Sequence[Subject]) -> list[Reconstruction]:
    """Regenerates all photos; compares with plain DDIM inversion, each method alone, and the ceilings."""
    inversions = invert_subjects(run, subjects)
    boosts = [inversion.boosted for inversion in inversions]
    encoded = torch.cat([subject.encoded for subject in subjects])
    by_ddim = _by_ddim(run, encoded)
    boosted_by_ddim: Sequence[Tensor | None] = [None] * len(subjects)
    if all(boosts):
        regenerated: Sequence[Tensor] = [boost.regenerated for boost in boosts if boost]
        boosted_by_ddim = _by_ddim(run, torch.cat([boost.image_latents for boost in boosts if boost]))
    else:
        seeds = torch.cat([inversion.seed.latents for inversion in inversions]).to(run.model.device)
        regenerated = run.sampler.generate(seeds).split(1)
    return [_judge(run, *one) for one in zip(inversions, regenerated, by_ddim, boosted_by_ddim, strict=True)]


def _by_ddim(run: Run, image_latents: Tensor) -> Sequence[Tensor]:
    """What plain DDIM inversion of image latents gives back."""
    return run.sampler.generate(run.sampler.ddim_invert(image_latents)).split(1)


def _judge(
    run: Run,
    inversion: PhotoInversion,
    regenerated: Tensor,
    by_ddim: Tensor,
    boosted_by_ddim: Tensor | None,
) -> Reconstruction:
    model, subject, boost = run.model, inversion.subject, inversion.boosted
    score = partial(subject.score, model)
    square, autoencoded, ddim = (decode(model, z) for z in (regenerated, subject.encoded, by_ddim))
    final, ceiling = psnr(subject.original, square), None
    if run.settings.decoder_ceiling:
        ceiling = decoder_ceiling(model.decode, subject.encoded, subject.pixels, score)
    return Reconstruction(
        seed=inversion.seed,
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
        lbo_psnr=boost.rounds[0].psnr if boost else final,
        ilb_psnr=None if boosted_by_ddim is None else score(boosted_by_ddim),
        latent_fidelity_db=latent_fidelity(inversion.seed.image_latents, regenerated),
        ddim_latent_fidelity_db=latent_fidelity(subject.encoded, by_ddim),
        seconds=run.seconds(),
    )


def _from_seed(seed: Seed, path: Path, model: Model, on_progress: OnProgress | None) -> Reconstruction:
    check_model(seed, path, model)
    regenerated = model.sampler(seed.recipe, on_progress=on_progress).generate(seed.latents.to(model.device))
    picture = decode(model, regenerated)
    return Reconstruction(seed, None, picture, picture, latent_fidelity(seed.image_latents, regenerated))
