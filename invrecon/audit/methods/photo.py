"""A photo of an audit: its latents and pictures, and its row of the journal."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from invrecon.audit.methods.plan import Plan, Setting
from invrecon.core.descent import decoder_ceiling
from invrecon.core.objective import PROXIMAL_WEIGHT
from invrecon.image import save_png
from invrecon.journal import Journal, key
from invrecon.jsonable import jsonable
from invrecon.metrics import psnr
from invrecon.pipeline import invert
from invrecon.pipeline.subject import Subject, decode, find_subject
from invrecon.settings import Settings
from invrecon.writing import replacing

if TYPE_CHECKING:
    from invrecon.models import Model


@dataclass(frozen=True)
class AuditPhoto:
    """A photo, ready to be inverted.

    Args:
        identity: of the photo, the model and the grid together; part of every key of the journal.
        out: the audit's folder.
    """

    path: Path
    subject: Subject
    identity: str
    out: Path

    def save(self, picture: Image.Image, name: str) -> str:
        """Writes a picture as PNG; returns its path under `out`."""
        path = f"pictures/{name}.png"
        save_png(picture, self.out / path)
        return path


def load_audit_photo(path: Path, model: Model, settings: Settings, out: Path) -> AuditPhoto:
    """The photo on the model's canvas, encoded.

    Raises:
        InputError: the photo can't be used.
    """
    subject = find_subject(path, model, settings)
    dtype = str(model.dtype).removeprefix("torch.")
    grid = (settings.num_inference_steps, settings.size, settings.fit, dtype)
    return AuditPhoto(path, subject, key(subject.photo.sha256, model.fingerprint, *grid), out)


def note_photo(photo: AuditPhoto, model: Model, plan: Plan, settings: Settings, journal: Journal) -> None:
    """Adds the photo's row, its ceilings and pictures, unless the journal has it."""
    name = key(photo.identity, "photo", plan.decoder_ceiling)
    if name in journal:
        return
    subject = photo.subject
    autoencoded, ceiling = decode(model, subject.encoded), None
    if plan.decoder_ceiling:
        ceiling = decoder_ceiling(
            model.decode,
            subject.encoded,
            subject.pixels,
            lambda image_latents: subject.score(model, image_latents),
        )
    row = {
        "kind": "photo",
        "photo": photo.path.name,
        "sha256": subject.photo.sha256,
        "size": settings.size,
        "encoder_ceiling_db": jsonable(psnr(subject.original, autoencoded)),
        "decoder_ceiling_db": jsonable(ceiling),
        "original": photo.save(subject.original, f"{name}.original"),
        "autoencoded": photo.save(autoencoded, f"{name}.autoencoded"),
    }
    journal.add(name, row)


def boosting_key(settings: Settings) -> tuple[float | str, ...]:
    """All that boosted latents depend on beside photo, model, grid, prompt and guidance."""
    return (
        settings.proximal_weight,
        settings.boost_rounds,
        settings.decoder_steps,
        settings.decoder_dtype,
        PROXIMAL_WEIGHT,
    )


def boosted_latents(
    photo: AuditPhoto, model: Model, settings: Settings, setting: Setting, prompt: str
) -> Tensor:
    """ILB's z_0 under a setting, (1, C, h, w); computed once and kept in the audit's folder."""
    name = key(photo.identity, prompt, setting.guidance_scale, *boosting_key(settings))
    path = photo.out / "latents" / f"{name}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        scale = model.own_guidance(setting.guidance_scale)
        wanted = replace(settings, boost=True, prompt=prompt, guidance_scale=scale)
        with replacing(path) as partial:
            save_file({"image_latents": invert(photo.path, model, wanted).seed.image_latents}, partial)
    return load_file(path)["image_latents"].to(model.device)
