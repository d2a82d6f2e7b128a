"""Whether a seed file holds what it promises, asked of stock diffusers, and where the loss comes from."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL.Image import Image
from torch import Tensor

from invrecon.core.sampler import OnProgress
from invrecon.errors import ModelError, UsageError
from invrecon.image import load_photo
from invrecon.metrics import latent_fidelity, psnr, ssim
from invrecon.pipeline.seeds import blamed, canvas_of, caveats, check_model, check_photo
from invrecon.pipeline.subject import Subject, check_network, lay_out
from invrecon.seedfile import Seed, load_seed

if TYPE_CHECKING:
    from invrecon.models import Model
    from invrecon.models.stock import StockPipeline


@dataclass(frozen=True)
class Losses:
    """PSNR against the photo in dB, stage by stage; from each to the next something is lost, or by boosting
    won.

    Args:
        encoder: D(E(x)), pixels not rounded.
        boosting: D(z_0) of the seed file's image latents.
        trajectory: the same image latents inverted and regenerated without guidance; equal to `guidance`
            where there is none.
        guidance: regenerated from the seed, with its guidance.
        eight_bits: the same, rounded to 8 bits: the final picture.
    """

    encoder: float
    boosting: float
    trajectory: float
    guidance: float
    eight_bits: float


@dataclass(frozen=True)
class Variant:
    """The seed under another sampler, step count or dtype; `psnr` is NaN where that can't be had."""

    sampler: str
    steps: int
    dtype: str
    psnr: float


@dataclass(frozen=True)
class Verification:
    """What stock diffusers makes of a seed file.

    Args:
        psnr: of the picture against the photo as the model sees it, dB; `psnr_photo` is of the photo at its
            own size.
        subject: the photo as the model sees it.
        advice: why the figures may be lower than what the seed was found with.
    """

    picture: Image
    psnr: float
    ssim: float
    latent_fidelity_db: float
    losses: Losses
    seconds: float
    matrix: list[Variant] = field(default_factory=list)
    psnr_photo: float | None = None
    subject: Subject | None = None
    advice: str | None = None


def verify(
    seed_file: Path | str,
    photo: Path | str,
    model: Model,
    on_progress: OnProgress | None = None,
    *,
    matrix: bool = False,
    dtype: str = "float32",
) -> Verification:
    """Regenerates a seed through the stock pipeline and compares the picture with the photo.

    Args:
        seed_file: written by invrecon.
        photo: the photo that it was made from.
        model: says where the checkpoint lies; its sampling is not used, but to split off the part of
            guidance.
        on_progress: called after every step with (stage, steps done, steps in all).
        matrix: whether to try other step counts, samplers and dtypes too.
        dtype: of the stock pipeline. In half precision it rounds the latents after each step too, which
            invrecon doesn't, and so loses more than in float32 even of seeds that were found in half
            precision.

    Returns:
        The stock pipeline's picture, its figures against the photo, and where the loss comes from, dB.

    Raises:
        InputError: seed file or photo can't be used, don't belong together, or the model isn't what the seed
            was made with.
    """
    from invrecon.models.stock import StockPipeline

    begun = time.monotonic()
    seed_file, photo = Path(seed_file), Path(photo)
    seed = load_seed(seed_file)
    check_model(seed, seed_file, model)
    check_photo(seed, seed_file, photo)
    subject = lay_out(load_photo(photo), canvas_of(seed, seed_file), model)
    pipeline = StockPipeline(model, dtype)
    if matrix and not model.checkpoint:
        raise UsageError(
            f"a matrix loads the checkpoint anew, and {model.name} is a live pipeline: leave it out"
        )
    if on_progress:
        on_progress("regenerating with diffusers", 0, 1)
    picture, regenerated = pipeline.regenerate(seed.latents, seed.recipe)
    with blamed(seed_file):
        check_network(regenerated, model, seed.recipe)
    return Verification(
        picture=picture,
        psnr=subject.psnr(picture),
        ssim=ssim(subject.original, picture),
        latent_fidelity_db=latent_fidelity(seed.image_latents, regenerated),
        losses=_losses(seed, subject, model, pipeline, regenerated),
        seconds=time.monotonic() - begun,
        matrix=_matrix(seed, subject, model, on_progress) if matrix else [],
        psnr_photo=psnr(subject.canvas.shown(subject.photo.rgb), subject.canvas.enlarge(picture)),
        subject=subject,
        advice="; ".join([*caveats(seed, model, dtype), *_of_halves(seed, dtype)]) or None,
    )


def _of_halves(seed: Seed, dtype: str) -> list[str]:
    """What is to be said where the seed was found, or is verified, in half precision."""
    if dtype != "float32":
        return [f"stock diffusers rounds the latents to {dtype} after each step, which invrecon doesn't"]
    steps = seed.header.get("steps")
    records = [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    rescued = [step for step in records if step.get("float32")]
    if seed.header["dtype"] == "float32":
        return []
    told = "stock diffusers is asked in float32, since in half precision it rounds the latents too"
    return [told, *([f"{len(rescued)} steps were found in float32"] if rescued else [])]


def _losses(seed: Seed, subject: Subject, model: Model, stock: StockPipeline, regenerated: Tensor) -> Losses:
    photo = subject.cut(subject.pixels) / 2 + 0.5

    def unrounded(image_latents: Tensor) -> float:
        error = (subject.cut(stock.decode(image_latents)[1]).clamp(0, 1) - photo).square().mean().item()
        return -10 * math.log10(error) if error else math.inf

    guided = unguided = unrounded(regenerated)
    if seed.recipe.guidance_scale != model.no_guidance:
        recipe = replace(seed.recipe, guidance_scale=model.no_guidance)
        [inversion] = model.sampler(recipe).invert(seed.image_latents.to(model.device))
        unguided = unrounded(stock.regenerate(inversion.latents, recipe)[1])
    return Losses(
        encoder=unrounded(subject.encoded),
        boosting=unrounded(seed.image_latents),
        trajectory=unguided,
        guidance=guided,
        eight_bits=subject.psnr(stock.decode(regenerated)[0]),
    )


def _matrix(seed: Seed, subject: Subject, model: Model, on_progress: OnProgress | None) -> list[Variant]:
    from invrecon.models.stock import OWN, SAMPLERS, StockPipeline

    recipe = seed.recipe
    steps, own = recipe.num_inference_steps, OWN[recipe.sampler]
    plan = [(own, count, "float32") for count in (max(1, steps // 2), steps, min(1000, 2 * steps))]
    plan += [(sampler, steps, "float32") for sampler in SAMPLERS if sampler != own]
    plan += [(own, steps, dtype) for dtype in ("bfloat16", "float16")]
    stocks = {dtype: StockPipeline(model, dtype) for dtype in dict.fromkeys(row[2] for row in plan)}
    variants = []
    for done, (sampler, count, dtype) in enumerate(plan):
        if on_progress:
            on_progress(f"{sampler}, {count} steps, {dtype}", done, len(plan))
        try:
            other = None if sampler == own else sampler
            picture, _ = stocks[dtype].regenerate(
                seed.latents, replace(recipe, num_inference_steps=count), other
            )
            value = subject.psnr(picture)
        except ModelError:
            value = math.nan
        variants.append(Variant(sampler, count, dtype, value))
    return variants
