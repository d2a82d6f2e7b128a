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
from invrecon.core.ilb import Boost
from invrecon.core.sampler import OnProgress
from invrecon.errors import InvreconError, UsageError
from invrecon.formats import is_seed_file
from invrecon.metrics import latent_fidelity, psnr, ssim
from invrecon.pipeline.inversion import PhotoInversion, invert_subjects
from invrecon.pipeline.run import Run, only, run_photos, settled
from invrecon.pipeline.seeds import (
    blamed,
    canvas_of,
    caveats,
    check_model,
    check_photo,
    passed_over,
    unchecked,
)
from invrecon.pipeline.subject import Subject, decode
from invrecon.seedfile import Seed, load_seed
from invrecon.settings import Settings

if TYPE_CHECKING:
    from invrecon.models import Model


ENOUGH = 30.0  # dB of latent fidelity; on `mini` less costs more than 0.15 dB of PSNR


@dataclass(frozen=True)
class Reconstruction:
    """What the seed alone gives back. Pictures and figures that need the photo are None for a seed file.

    Args:
        picture: at the photo's own size; no pixel is the photo's. With fit "crop" it is the part that the
            model sees.
        square: as the model gives it, whatever its shape; `original`, `autoencoded` and `ddim` are its peers:
            the photo on the canvas, D(E(x)), and what plain DDIM inversion leads to.
        psnr, ssim: of `square` against `original`, both 8 bits; `encoder_ceiling_db` and `ddim_psnr`
            likewise. Padding is left out of PSNR.
        psnr_photo: of `picture` against the photo at its own size, dB.
        lbo_psnr, ilb_psnr: with one method alone: LBO of E(x), and the boosted latents by plain DDIM
            inversion; None where the settings don't ask for them (`ablation`).
        decoder_ceiling_db: the best that the decoder can give, where the settings ask for it.
        latent_fidelity_db: of the regenerated image latents against z_0, boosted or not.
        seconds: for everything, comparisons included; in a batch, the photo's share.
        tiling: whether the picture was decoded in tiles.
        advice: for a seed file, why its picture may be worse than what the seed was found with; for a photo
            `inversion.advice`.
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
    psnr_photo: float | None = None
    ssim: float | None = None
    encoder_ceiling_db: float | None = None
    decoder_ceiling_db: float | None = None
    ddim_psnr: float | None = None
    lbo_psnr: float | None = None
    ilb_psnr: float | None = None
    ddim_latent_fidelity_db: float | None = None
    seconds: float = math.nan
    tiling: bool = False
    advice: str | None = None


def reconstruct(
    source: Path | str, model: Model, settings: Settings | None = None, on_progress: OnProgress | None = None
) -> Reconstruction:
    """Regenerates a picture from seed noise alone: a photo is inverted first, a seed file speaks for itself.

    A seed file brings its own prompt, steps and guidance; `settings` are for photos.

    Args:
        source: an image file of any size, or a seed file.
        model: from `load_model`; for a seed file the one that it was made with.
        settings: the defaults where it is None.
        on_progress: called after every step with (stage, steps done, steps in all).

    Returns:
        The picture, its seed, and figures that compare it with the photo, dB.

    Raises:
        InputError: the photo or seed file can't be used, or the seed was made with another model.
        UsageError, ModelError: the settings don't fit the model.
    """
    source, begun = Path(source), time.monotonic()
    if not is_seed_file(source):
        return only(reconstruct_batch([source], model, settings, on_progress))
    seed = load_seed(source)
    result = _from_seed(seed, source, model, on_progress)
    notes = passed_over(seed, settings) if settings else []
    advice = "; ".join([*notes, *filter(None, [result.advice])]) or None
    return replace(result, seconds=time.monotonic() - begun, advice=advice)


def reconstruct_batch(
    photos: Sequence[Path | str],
    model: Model,
    settings: Settings | Sequence[Settings] | None = None,
    on_progress: OnProgress | None = None,
) -> list[Reconstruction | InvreconError]:
    """`reconstruct` for several photos at once.

    Args:
        photos: image files, of any size; those of one shape go together.
        settings: for all, or one for each, whose prompts may differ; the defaults where it is None.
        model, on_progress: as for `reconstruct`.

    Returns:
        One for each photo, in order, as if it were alone; in place of one that can't be used, its error.

    Raises:
        UsageError, ModelError: the settings don't fit the model.
    """
    return run_photos(photos, _work, model, settled(model, settings), on_progress)


def boost(
    source: Path | str,
    model: Model,
    settings: Settings | None = None,
    on_progress: OnProgress | None = None,
    *,
    photo: Path | str | None = None,
) -> Reconstruction:
    """Boosts the image latents of a photo, or of a seed file that was made from `photo`, and regenerates it
    from the new seed.

    Args:
        source: an image file, or a seed file, whose own prompt, steps, guidance and size are kept.
        model, settings, on_progress: as for `reconstruct`.
        photo: what a seed file was made from.

    Returns:
        The picture, its seed, and figures that compare it with the photo, dB.

    Raises:
        InputError: `source` or `photo` can't be used, or don't belong together.
        UsageError, ModelError: the settings don't fit the model, or a seed file comes without its photo.
    """
    source, settings, notes = Path(source), model.settled(settings or Settings()), list[str]()
    if is_seed_file(source):
        if photo is None:
            raise UsageError(
                f"{source}: boosting a seed needs the photo that it was made from: give it with --photo"
            )
        seed = load_seed(source)
        notes = [*passed_over(seed, settings), *unchecked(seed)]
        settings = _settings_of(seed, source, Path(photo), model, settings)
    result = only(run_photos([photo or source], _work, model, replace(settings, boost=True), on_progress))
    return replace(result, advice="; ".join([*notes, *filter(None, [result.advice])]) or None)


def _settings_of(seed: Seed, path: Path, photo: Path, model: Model, settings: Settings) -> Settings:
    check_model(seed, path, model)
    check_photo(seed, path, photo)
    recipe = asdict(seed.recipe)
    size = f"{recipe.pop('width')}x{recipe.pop('height')}"
    return replace(settings, size=size, fit=canvas_of(seed, path).fit, auto_guidance=False, **recipe)


def _work(run: Run, subjects: Sequence[Subject]) -> list[Reconstruction]:
    """Regenerates all photos, and sets each result beside plain DDIM inversion, each method alone, and the
    ceilings.
    """
    inversions = invert_subjects(run, subjects)
    boosts = [inversion.boosted for inversion in inversions]
    by_ddim = _by_ddim(run, torch.cat([subject.encoded for subject in subjects]))
    boosted_by_ddim: Sequence[Tensor | None] = [None] * len(subjects)
    if all(boosts):
        regenerated: Sequence[Tensor] = [boost.regenerated for boost in boosts if boost]
        if run.settings.ablation:
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
    score = partial(subject.score, model, recipe=run.recipe)
    latents = regenerated, subject.encoded, by_ddim
    square, autoencoded, ddim = (decode(model, z, run.recipe) for z in latents)
    final, ceiling = subject.psnr(square), None
    photo = subject.canvas.shown(subject.photo.rgb)
    fidelity = latent_fidelity(inversion.seed.image_latents, regenerated)
    if run.settings.decoder_ceiling:
        ceiling = _decoder_ceiling(model, subject)
    return Reconstruction(
        seed=inversion.seed,
        inversion=inversion,
        picture=subject.canvas.restore(square, subject.photo),
        square=square,
        original=subject.original,
        autoencoded=autoencoded,
        ddim=ddim,
        psnr=final,
        psnr_photo=psnr(photo, subject.canvas.enlarge(square)),
        ssim=ssim(subject.original, square),
        encoder_ceiling_db=subject.psnr(autoencoded),
        decoder_ceiling_db=ceiling,
        ddim_psnr=subject.psnr(ddim),
        lbo_psnr=_lbo_psnr(boost, final),
        ilb_psnr=None if boosted_by_ddim is None else score(boosted_by_ddim),
        latent_fidelity_db=fidelity,
        ddim_latent_fidelity_db=latent_fidelity(subject.encoded, by_ddim),
        seconds=run.seconds(),
        tiling=inversion.seed.header["tiling"],
        advice="; ".join(filter(None, [inversion.advice, _loss(run, fidelity)])) or None,
    )


def _loss(run: Run, fidelity: float) -> str | None:
    """What a person should know where the seed loses the picture: `fidelity` is in dB."""
    if fidelity >= ENOUGH:
        return None
    if math.isfinite(run.settings.mean_evaluations):
        cure = "take --effort standard, or a larger --mean-evaluations"
    elif run.sampler.denoiser.weight != 1:
        cure = "take a smaller --guidance-scale, or auto"
    else:
        cure = "take more --steps, or a smaller --rtol"
    return f"the seed gives the image latents back to {fidelity:.0f} dB only, which the picture shows: {cure}"


def _lbo_psnr(boost: Boost | None, final: float) -> float | None:
    """PSNR without boosting, where that is known."""
    if not boost:
        return final
    return next((one.psnr for one in boost.rounds if one.decoder_steps == 0), None)


def _decoder_ceiling(model: Model, subject: Subject) -> float:
    def decode_seen(latents: Tensor) -> Tensor:
        return subject.cut(model.decode(latents))

    score = partial(subject.score, model)
    return decoder_ceiling(decode_seen, subject.encoded, subject.cut(subject.pixels), score)


def _from_seed(seed: Seed, path: Path, model: Model, on_progress: OnProgress | None) -> Reconstruction:
    check_model(seed, path, model)
    regenerated = model.sampler(seed.recipe, on_progress=on_progress).generate(seed.latents.to(model.device))
    with blamed(path):
        picture = decode(model, regenerated, seed.recipe)
    return Reconstruction(
        seed,
        None,
        picture,
        picture,
        latent_fidelity(seed.image_latents, regenerated),
        tiling=model.tiled(seed.recipe.width, seed.recipe.height),
        advice="; ".join(caveats(seed, model)) or None,
    )
