"""One photo in one latent space: D(E(x)), boosted, and the decoder's ceiling."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from invrecon.core.descent import descend
from invrecon.core.ilb import BoostBudget, descent
from invrecon.core.objective import PROXIMAL_WEIGHT, Objective, squared_error
from invrecon.image import save_png
from invrecon.journal import Journal, key
from invrecon.jsonable import jsonable
from invrecon.pipeline import OnProgress
from invrecon.pipeline.boosting import decoders
from invrecon.pipeline.subject import Subject, decode, find_subject
from invrecon.settings import Settings

if TYPE_CHECKING:
    from invrecon.models.latent_space import LatentSpace

Row = dict[str, Any]
CEILING_PASSES = 400  # through the decoder and back, after which what it could still gain is not worth a wait


def run_autoencoders(
    photos: Sequence[Path],
    spaces: Sequence[LatentSpace],
    settings: Settings,
    out: Path,
    on_progress: OnProgress | None = None,
) -> list[Row]:
    """A row for each autoencoder and photo; those that `out` holds are not measured again.

    Args:
        settings: size, fit and boosting. Without a network nothing limits the seed's norm, and the proximal
            term weighs all changes alike.
        out: folder for results.jsonl and pictures.

    Raises:
        InputError: a photo can't be used.
    """
    journal, done = Journal(out / "results.jsonl"), 0
    for path in photos:
        for space in spaces:
            done += 1
            if on_progress:
                on_progress(f"{path.name}: {space.name}", done, len(spaces) * len(photos))
            subject = find_subject(path, space, settings)
            name = _key(subject, space, settings)
            if name not in journal:
                journal.add(name, _measure(path, subject, space, settings, (out, name)))
    return journal.asked


def _key(subject: Subject, space: LatentSpace, settings: Settings) -> str:
    grid = settings.size, settings.fit, settings.decoder_steps, settings.decoder_dtype
    weights = settings.proximal_weight, PROXIMAL_WEIGHT, CEILING_PASSES
    return key("autoencoder", subject.photo.sha256, space.name, space.fingerprint, *grid, *weights)


def _measure(
    path: Path, subject: Subject, space: LatentSpace, settings: Settings, place: tuple[Path, str]
) -> Row:
    """The row; its pictures are saved in the folder of `place`, under its name."""
    budget = BoostBudget(decoder_steps=settings.decoder_steps)
    begun = time.monotonic()
    boosted, passes = descent(_objective(subject, space, settings), budget)
    seconds = time.monotonic() - begun
    free, _ = descent(_objective(subject, space, replace(settings, proximal_weight=0.0)), budget)
    ceiling = _ceiling(subject, space)
    latents = {"autoencoded": subject.encoded, "boosted": boosted, "free": free, "ceiling": ceiling}
    pictures = {name: decode(space, one) for name, one in latents.items()}
    psnr = {name: subject.psnr(picture) for name, picture in pictures.items()}
    gap = psnr["ceiling"] - psnr["autoencoded"]

    def share(name: str) -> float | None:
        return jsonable((psnr[name] - psnr["autoencoded"]) / gap) if gap > 0 else None

    out, name = place
    saved = {"original": subject.original} | pictures
    del saved["free"]
    for title, picture in saved.items():
        save_png(picture, out / "pictures" / f"{name}.{title}.png")
    return {
        "kind": "autoencoder",
        "autoencoder": space.name,
        "fingerprint": space.fingerprint,
        "photo": path.name,
        "sha256": subject.photo.sha256,
        "size": list(subject.canvas.size),
        "encoder_ceiling_db": jsonable(psnr["autoencoded"]),
        "boosted_db": jsonable(psnr["boosted"]),
        "decoder_steps": passes,
        "without_proximal_db": jsonable(psnr["free"]),
        "decoder_ceiling_db": jsonable(psnr["ceiling"]),
        "ceiling_steps": CEILING_PASSES,
        "share": share("boosted"),
        "share_without_proximal": share("free"),
        "distance": jsonable(_distance(boosted, subject.encoded)),
        "ceiling_distance": jsonable(_distance(ceiling, subject.encoded)),
        "seconds": seconds,
        **{title: f"pictures/{name}.{title}.png" for title in saved},
    }


def _objective(subject: Subject, space: LatentSpace, settings: Settings) -> Objective:
    weight = settings.proximal_weight
    return Objective(
        **decoders(space, settings),
        encoded=subject.encoded,
        photo=subject.cut(subject.pixels),
        score=partial(subject.score, space),
        weight=PROXIMAL_WEIGHT if isinstance(weight, str) else weight,
        seen=subject.cut,
    )


def _ceiling(subject: Subject, space: LatentSpace) -> Tensor:
    """Image latents that minimise the squared error alone, in float32."""

    def values(latents: Tensor, _numbers: Sequence[int]) -> Tensor:
        return squared_error(subject.cut(space.decode(latents)), subject.cut(subject.pixels))[None]

    [(best, _)] = descend(values, subject.encoded, lambda _number, step, *_: step < CEILING_PASSES)
    return best


def _distance(latents: Tensor, encoded: Tensor) -> float:
    return ((latents - encoded).norm() / encoded.norm()).item()
