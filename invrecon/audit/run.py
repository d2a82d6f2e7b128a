"""Runs every method on the same latents, prompt and grid, and notes what each gives and costs."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from invrecon.audit.plan import OURS, Job, Plan, Setting, key
from invrecon.core import ilb
from invrecon.core.denoiser import Counted, Guided
from invrecon.core.guidance import invert_guided
from invrecon.core.health import health
from invrecon.core.peers import Stored, make_peer
from invrecon.core.peers.levels import levels
from invrecon.core.sampling import generate
from invrecon.core.schedule import Schedule
from invrecon.errors import UsageError
from invrecon.image import load_photo, plan_canvas, save_png, to_image, to_tensor
from invrecon.journal import Journal
from invrecon.jsonable import jsonable
from invrecon.metrics import latent_fidelity, lpips, psnr, ssim
from invrecon.models.memory import peak_memory, reset_peak
from invrecon.pipeline import OnProgress, invert
from invrecon.settings import Settings
from invrecon.solve import Outcome
from invrecon.writing import replacing

if TYPE_CHECKING:
    from invrecon.models import Model

Row = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """One photo, ready to be inverted; `identity` tells it, the model and the grid from all others."""

    path: Path
    sha256: str
    original: Image.Image
    pixels: Tensor
    encoded: Tensor
    identity: str
    out: Path


def run_audit(
    photos: list[Path],
    model: Model,
    plan: Plan,
    settings: Settings,
    out: Path,
    on_progress: OnProgress | None = None,
) -> Journal:
    """Runs what `out` doesn't hold yet; every finished run is kept at once.

    Args:
        photos: of any format and size; each is fitted to the model's square.
        settings: model, steps, size, fit, rtol and boosting; prompt and guidance are the plan's.
        out: folder for results.jsonl, pictures and boosted latents.

    Raises:
        InputError: a photo can't be used.
        UsageError, ModelError: the model has no DDIM steps in epsilon form, which is what the other methods are for.
    """
    journal = Journal(out / "results.jsonl")
    model, settings = model.with_sampler("ddim"), replace(settings, sampler="ddim")
    schedule = model.schedule(settings.num_inference_steps, settings.size)
    try:
        levels(schedule)  # which some methods need
    except ValueError as error:
        raise UsageError(f"the audit can't be run on {model.name}: {error}") from error
    jobs, done = list(plan.jobs()), 0
    for path in photos:
        bench = _bench(path, model, settings, out)
        _note_photo(bench, model, plan, settings, journal)
        for job in jobs:
            done += 1
            if on_progress:
                on_progress(f"{path.name}: {job.method}, {job.setting.name}", done, len(jobs) * len(photos))
            name = key(
                bench.identity,
                *asdict(job).values(),
                settings.rtol,
                *(_boosting(settings) if job.boosted else ()),
            )
            if name not in journal:
                journal.add(name, _run(job, bench, model, schedule, plan, settings, name))
    return journal


def _bench(path: Path, model: Model, settings: Settings, out: Path) -> Bench:
    photo = load_photo(path)
    original = plan_canvas(photo.rgb.size, settings.size, settings.fit).place(photo.rgb)
    pixels = to_tensor(original).to(model.device)
    grid = (settings.num_inference_steps, settings.size, settings.fit, settings.dtype)
    return Bench(
        path,
        photo.sha256,
        original,
        pixels,
        model.encode(pixels),
        key(photo.sha256, model.fingerprint, *grid),
        out,
    )


def _note_photo(bench: Bench, model: Model, plan: Plan, settings: Settings, journal: Journal) -> None:
    name = key(bench.identity, "photo", plan.decoder_ceiling)
    if name in journal:
        return

    @torch.no_grad()
    def picture(image_latents: Tensor) -> Image.Image:
        return to_image(model.decode(image_latents))

    def score(image_latents: Tensor) -> float:
        return psnr(bench.original, picture(image_latents))

    autoencoded = picture(bench.encoded)
    ceiling = (
        ilb.decoder_ceiling(model.decode, bench.encoded, bench.pixels, score)
        if plan.decoder_ceiling
        else None
    )
    row = {
        "kind": "photo",
        "photo": bench.path.name,
        "sha256": bench.sha256,
        "size": settings.size,
        "encoder_ceiling_db": jsonable(psnr(bench.original, autoencoded)),
        "decoder_ceiling_db": jsonable(ceiling),
        "original": _keep(bench.original, bench.out, f"{name}.original"),
        "autoencoded": _keep(autoencoded, bench.out, f"{name}.autoencoded"),
    }
    journal.add(name, row)


def _run(
    job: Job, bench: Bench, model: Model, schedule: Schedule, plan: Plan, settings: Settings, name: str
) -> Row:
    prompt = plan.caption(bench.path, job.setting)
    z_0 = _boosted(bench, model, settings, job.setting, prompt) if job.boosted else bench.encoded
    guided = model.denoiser(prompt, "", job.setting.guidance_scale)
    network = Counted(guided.denoiser)
    counted = Guided(network, guided.condition, guided.negative, guided.guidance_scale, guided.precision)
    reset_peak(model.device)
    begun = time.monotonic()
    stored, records, regenerate = _invert(job, counted, schedule, z_0, settings)
    seconds, forward, backward = time.monotonic() - begun, network.forward, network.backward
    memory = peak_memory(model.device)
    regenerated = regenerate()
    common = asdict(job) | {
        "setting": job.setting.name,
        "guidance_scale": job.setting.guidance_scale,
        "track": job.track,
    }
    return (
        {"kind": "run", "photo": bench.path.name, "prompt": prompt, "steps": len(schedule), "error": None}
        | common
        | {
            "forward": forward,
            "backward": backward,
            "evaluations_per_step": (forward + 2 * backward) / len(schedule),
            "seconds": seconds,
            "peak_memory_mb": None if memory is None else memory / 1e6,
            "stored_bytes": sum(tensor.nbytes for tensor in (stored.latents, *stored.extras.values())),
            "converged_steps": sum(record.outcome.solved for record in records) if records else None,
            "diverged_steps": sum(record.outcome is Outcome.DIVERGED for record in records)
            if records
            else None,
            "timesteps": [record.timestep for record in records],
            "residuals": [jsonable(record.residual) for record in records],
            "health": {field: jsonable(value) for field, value in asdict(health(stored.latents)).items()},
        }
        | _judge(bench, model, z_0, regenerated, name)
    )


def _invert(job: Job, denoiser: Guided, schedule: Schedule, z_0: Tensor, settings: Settings):  # type: ignore[no-untyped-def]
    """(what is stored, LBO's records, a function that regenerates from it)."""
    if job.method == OURS:
        mean = math.inf if job.budget is None else job.budget
        [found] = invert_guided(
            denoiser,
            schedule,
            z_0,
            rtol=settings.rtol,
            max_evaluations=settings.max_evaluations,
            mean_evaluations=mean,
        )
        return Stored(found.latents, {}), found.records, lambda: generate(denoiser, schedule, found.latents)
    peer = make_peer(job.method, job.budget)
    stored = peer.invert(denoiser, schedule, z_0)
    return stored, [], lambda: peer.generate(denoiser, schedule, stored)


def _judge(bench: Bench, model: Model, z_0: Tensor, regenerated: Tensor, name: str) -> Row:
    """Figures of the saved 8-bit picture, and of the latents in float."""
    if not regenerated.isfinite().all():
        figures = (
            "psnr",
            "psnr_unrounded",
            "psnr_of_z_0",
            "ssim",
            "lpips",
            "latent_nmse",
            "latent_fidelity_db",
            "picture",
        )
        return dict.fromkeys(figures) | {"error": "the result is not finite"}
    with torch.no_grad():
        pixels, of_z_0 = model.decode(regenerated), to_image(model.decode(z_0))
    path = _keep(to_image(pixels), bench.out, name)
    with Image.open(bench.out / path) as file:
        picture = file.convert("RGB")
    fidelity = latent_fidelity(z_0, regenerated)
    return {
        "psnr": jsonable(psnr(bench.original, picture)),
        "psnr_unrounded": jsonable(
            -10 * math.log10((pixels.clamp(-1, 1) - bench.pixels).square().mean().item() / 4 + 1e-30)
        ),
        "psnr_of_z_0": jsonable(psnr(bench.original, of_z_0)),
        "ssim": jsonable(ssim(bench.original, picture)),
        "lpips": lpips(bench.original, picture),
        "latent_nmse": jsonable(10 ** (-fidelity / 10)),
        "latent_fidelity_db": jsonable(fidelity),
        "picture": path,
    }


def _boosting(settings: Settings) -> tuple[float | str, ...]:
    """What boosted latents depend on, so that those of other settings or of other defaults are not taken for them."""
    return settings.proximal_weight, settings.boost_rounds, settings.decoder_steps, ilb.WEIGHT


def _boosted(bench: Bench, model: Model, settings: Settings, setting: Setting, prompt: str) -> Tensor:
    """ILB's z_0 under a setting, found once and kept."""
    name = key(bench.identity, prompt, setting.guidance_scale, *_boosting(settings))
    path = bench.out / "latents" / f"{name}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        wanted = replace(settings, boost=True, prompt=prompt, guidance_scale=setting.guidance_scale)
        with replacing(path) as partial:
            save_file({"image_latents": invert(bench.path, model, wanted).seed.image_latents}, partial)
    return load_file(path)["image_latents"].to(model.device)


def _keep(picture: Image.Image, out: Path, name: str) -> str:
    path = f"pictures/{name}.png"
    save_png(picture, out / path)
    return path
