"""One run: a method inverts and regenerates a photo; its row holds what that gave and cost."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from invrecon.audit.methods.photo import AuditPhoto, boosted_latents
from invrecon.audit.methods.plan import OURS, Run
from invrecon.core.denoiser import Counted
from invrecon.core.health import health
from invrecon.core.lbo import StepRecord
from invrecon.core.peers import Stored, make_peer
from invrecon.core.sampler import Sampler
from invrecon.image import to_image
from invrecon.jsonable import jsonable
from invrecon.metrics import latent_fidelity, lpips, psnr, ssim
from invrecon.models.memory import peak_memory, reset_peak
from invrecon.settings import Settings
from invrecon.solve import Outcome

if TYPE_CHECKING:
    from invrecon.models import Model

Row = dict[str, Any]
_FIGURES = ("psnr", "psnr_unrounded", "psnr_of_z_0", "ssim", "lpips", "latent_nmse", "latent_fidelity_db")


@dataclass(frozen=True)
class Inverted:
    """What a method keeps of a photo.

    Args:
        records: of LBO's steps, from image to noise; empty for other methods.
        regenerate: image latents z_0 from what is kept, (1, C, h, w).
    """

    stored: Stored
    records: Sequence[StepRecord]
    regenerate: Callable[[], Tensor]


def make_row(run: Run, photo: AuditPhoto, model: Model, settings: Settings, prompt: str, name: str) -> Row:
    """The row of a run; its picture is saved under `name`."""
    scale = model.own_guidance(run.setting.guidance_scale)
    z_0 = photo.subject.encoded
    if run.boosted:
        z_0 = boosted_latents(photo, model, settings, run.setting, prompt)
    size = photo.subject.canvas.size
    recipe = replace(settings.recipe(*size), prompt=prompt, negative_prompt="", guidance_scale=scale)
    budget = math.inf if run.budget is None else run.budget
    sampler = model.sampler(
        recipe, replace(settings.inversion_effort, solver="auto", mean_evaluations=budget)
    )
    network = Counted(sampler.denoiser)
    sampler = replace(sampler, denoiser=network)
    reset_peak(model.device)
    begun = time.monotonic()
    inverted = invert(run, sampler, z_0)
    seconds, memory, steps = time.monotonic() - begun, peak_memory(model.device), len(sampler.schedule)
    cost = {
        "forward": network.forward,
        "backward": network.backward,
        "evaluations_per_step": network.evaluations / steps,
        "seconds": seconds,
        "peak_memory_mb": None if memory is None else memory / 1e6,
    }
    return (
        {"kind": "run", "photo": photo.path.name, "prompt": prompt, "steps": steps, "error": None}
        | asdict(run)
        | {"setting": run.setting.name, "guidance_scale": scale, "track": run.track}
        | cost
        | _describe(inverted)
        | _judge(photo, model, z_0, inverted.regenerate(), name)
    )


def invert(run: Run, sampler: Sampler, z_0: Tensor) -> Inverted:
    """The inversion of image latents by a run's method."""
    if run.method == OURS:
        [inversion] = sampler.invert(z_0)
        stored = Stored(inversion.latents, {})
        return Inverted(stored, inversion.records, lambda: sampler.generate(inversion.latents))
    peer = make_peer(run.method, run.budget)
    stored = peer.invert(sampler.denoiser, sampler.schedule, z_0)
    return Inverted(stored, [], lambda: peer.generate(sampler.denoiser, sampler.schedule, stored))


def _describe(inverted: Inverted) -> Row:
    """What is stored, the steps' records, and the seed's health."""
    stored, outcomes = inverted.stored, [record.outcome for record in inverted.records]
    return {
        "stored_bytes": sum(tensor.nbytes for tensor in (stored.latents, *stored.extras.values())),
        "converged_steps": sum(outcome.solved for outcome in outcomes) if outcomes else None,
        "diverged_steps": outcomes.count(Outcome.DIVERGED) if outcomes else None,
        "timesteps": [record.timestep for record in inverted.records],
        "residuals": [jsonable(record.residual) for record in inverted.records],
        "health": {field: jsonable(value) for field, value in asdict(health(stored.latents)).items()},
    }


def _judge(photo: AuditPhoto, model: Model, z_0: Tensor, regenerated: Tensor, name: str) -> Row:
    """Figures of the saved 8-bit picture, and of the latents in float."""
    if not regenerated.isfinite().all():
        return dict.fromkeys((*_FIGURES, "picture")) | {"error": "the result is not finite"}
    subject = photo.subject
    with torch.no_grad():
        pixels = model.decode(regenerated)
    path = photo.save(to_image(pixels), name)
    with Image.open(photo.out / path) as file:
        picture = file.convert("RGB")
    squared_error = (pixels.clamp(-1, 1) - subject.pixels).square().mean().item()
    fidelity = latent_fidelity(z_0, regenerated)
    return {
        "psnr": jsonable(psnr(subject.original, picture)),
        "psnr_unrounded": jsonable(-10 * math.log10(squared_error / 4 + 1e-30)),
        "psnr_of_z_0": jsonable(subject.score(model, z_0)),
        "ssim": jsonable(ssim(subject.original, picture)),
        "lpips": lpips(subject.original, picture),
        "latent_nmse": jsonable(10 ** (-fidelity / 10)),
        "latent_fidelity_db": jsonable(fidelity),
        "picture": path,
    }
