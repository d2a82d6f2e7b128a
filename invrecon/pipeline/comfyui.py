"""Seeds for ComfyUI: latents, a workflow, and what a person should know of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from invrecon.comfyui.grid import Grid, core_scheduler, grid_of, text_of
from invrecon.comfyui.nodes import scale_of
from invrecon.errors import InputError
from invrecon.pipeline.comfyui_files import loras, with_names
from invrecon.pipeline.workflow import Builder, Graph, output, page_form
from invrecon.seedfile import Seed, load_seed
from invrecon.writing import replacing

_FLOW_MODELS = ("SD3Transformer2DModel", "FluxTransformer2DModel")
_SCALES = (0.18215, 0.13025)  # what ComfyUI multiplies latents by: Stable Diffusion 1 and 2, and XL
_BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "trained_betas": None}
"""The noise schedule by which ComfyUI finds the timestep of a sigma, for all of these."""


@dataclass(frozen=True)
class Export:
    """What ComfyUI needs to go a seed's way.

    Args:
        latents: what LoadLatent loads, (1, C, h, w); None for flow models, where it has no effect.
        graph: the workflow, in the API's form.
        core_scheduler: ComfyUI's scheduler with the same grid; None where there is none.
        advice: what a person should know, or None.
    """

    latents: Tensor | None
    graph: Graph
    core_scheduler: str | None
    advice: str | None


def export_comfyui(path: Path, checkpoint: str) -> Export:
    """Reads a seed file and says how ComfyUI makes its picture.

    Args:
        path: a seed file.
        checkpoint: the file of its model, as ComfyUI lists it.

    Raises:
        InputError: it can't be read, or ComfyUI can't make the same picture.
    """
    seed = load_seed(path)
    try:
        grid = grid_of(seed.header)
        scale = None if grid.flow else scale_of(seed.header)
    except ValueError as error:
        raise InputError(f"{path}: can't be exported exactly: {error}") from error
    _check(seed, path, grid)
    latents = None if scale is None else (grid.factor / scale) * seed.latents
    graph = _graph(seed, path, grid, checkpoint)
    return Export(latents, graph, core_scheduler(seed.header, grid), _advice(seed, scale, path))


def save_export(export: Export, name: Path, overwrite: bool) -> None:
    """Writes NAME.latent, NAME.workflow.json and NAME.api.json, each whole or not at all.

    Raises:
        InvreconError: one can't be written, or exists and isn't to be overwritten.
    """
    page, api = json.dumps(page_form(export.graph), indent=1), json.dumps(export.graph, indent=1)
    texts = {".workflow.json": page.encode(), ".api.json": api.encode()}
    if export.latents is not None:
        tensors = {"latent_tensor": export.latents, "latent_format_version_0": torch.tensor([])}
        texts[".latent"] = save(tensors, metadata={"prompt": api, "workflow": page})
    for ending, data in texts.items():
        with replacing(name.with_name(name.name + ending), overwrite) as partial:
            partial.write_bytes(data)


def _check(seed: Seed, path: Path, grid: Grid) -> None:
    header, recipe = seed.header, seed.recipe
    identity = header.get("identity", {})
    try:
        loras(header)
        for text in (recipe.prompt, recipe.negative_prompt):
            with_names(text, header)
    except ValueError as error:
        raise InputError(f"{path}: can't be exported exactly: {error}") from error
    if header.get("edit"):
        raise InputError(f"{path}: can't be exported exactly: it holds an edit; export the seed of the photo")
    if not grid.flow:
        return
    kind = identity.get("configuration", {}).get("transformer", {}).get("_class_name")
    if kind not in _FLOW_MODELS or seed.latents.shape[1:] != (16, recipe.height // 8, recipe.width // 8):
        raise InputError(
            f"{path}: can't be exported exactly: of flow models, only Stable Diffusion 3 and Flux have a "
            f"workflow here, and its model is {kind} with latents {tuple(seed.latents.shape)}"
        )
    if recipe.width % 16 or recipe.height % 16:
        raise InputError(
            f"{path}: ComfyUI takes sides in steps of 16 pixels; invert with --size WIDTHxHEIGHT"
        )


def _advice(seed: Seed, scale: float | None, path: Path) -> str | None:
    if scale is None:
        return f"put {path.name} into ComfyUI's input folder, and link invrecon's nodes into custom_nodes"
    if not any(abs(scale / known - 1) < 1e-6 for known in _SCALES):
        return f"no model of ComfyUI has its autoencoder's scale, {scale:g}: the picture will be another"
    config = seed.header["scheduler"]["config"]
    if any(config.get(name) != value for name, value in _BETAS.items()):
        return "ComfyUI takes another noise schedule for such a model: the picture will be another"
    return None


def _graph(seed: Seed, path: Path, grid: Grid, checkpoint: str) -> Graph:
    recipe, build = seed.recipe, Builder()
    model, clip, vae = _loaded(build, seed, checkpoint)
    cfg, flux = float(recipe.guidance_scale), _guided_by_argument(seed.header)
    conditions = [_condition(build, seed, clip, text) for text in (recipe.prompt, recipe.negative_prompt)]
    if flux:
        guided = build.add("FluxGuidance", conditioning=output(conditions[0]), guidance=cfg)
        conditions[0], cfg = guided, 1.0
    positive, negative = (output(condition) for condition in conditions)
    common = {
        "sampler": output(build.add("KSamplerSelect", sampler_name="euler")),
        "sigmas": output(build.add("ManualSigmas", sigmas=text_of(grid.sigmas))),
    }
    guidance = {"model": model, "positive": positive, "negative": negative, "cfg": cfg}
    name = path.name.removesuffix(".safetensors").removesuffix(".seed")
    if grid.flow:
        noise = output(build.add("InvreconLoadSeed", seed_file=path.name, model=model))
        size = {"width": recipe.width, "height": recipe.height, "batch_size": 1}
        latent = output(build.add("EmptySD3LatentImage", **size))
        guider = output(build.add("CFGGuider", **guidance))
        sampled = build.add(
            "SamplerCustomAdvanced", noise=noise, guider=guider, latent_image=latent, **common
        )
    else:
        latent = output(build.add("LoadLatent", latent=f"{name}.latent"))
        options = {"add_noise": False, "noise_seed": 0, "latent_image": latent}
        sampled = build.add("SamplerCustom", **guidance, **common, **options)
    picture = build.add("VAEDecode", samples=output(sampled), vae=vae)
    build.add("SaveImage", images=output(picture), filename_prefix=name)
    return build.graph


def _loaded(build: Builder, seed: Seed, checkpoint: str) -> list[list[Any]]:
    """The model, its text encoders and its autoencoder, with the seed's LoRAs."""
    loader = build.add("CheckpointLoaderSimple", ckpt_name=checkpoint)
    parts = [output(loader, slot) for slot in range(3)]
    for lora in loras(seed.header):
        node = build.add("LoraLoader", model=parts[0], clip=parts[1], **lora)
        parts[:2] = output(node, 0), output(node, 1)
    return parts


def _guided_by_argument(header: dict[str, Any]) -> bool:
    """Whether the network itself is given the guidance, as Flux is."""
    configuration = header.get("identity", {}).get("configuration", {})
    return bool(configuration.get("transformer", {}).get("guidance_embeds"))


def _condition(build: Builder, seed: Seed, clip: list[Any], prompt: str) -> str:
    """A prompt's node. ComfyUI takes words in brackets for heavier ones, unless these are escaped."""
    text = with_names(prompt, seed.header).replace("(", "\\(").replace(")", "\\)")
    unet = seed.header.get("identity", {}).get("configuration", {}).get("unet", {})
    if unet.get("addition_embed_type") != "text_time":
        return build.add("CLIPTextEncode", clip=clip, text=text)
    width, height = seed.recipe.width, seed.recipe.height
    size = {"width": width, "height": height, "target_width": width, "target_height": height}
    return build.add("CLIPTextEncodeSDXL", clip=clip, **size, crop_w=0, crop_h=0, text_g=text, text_l=text)


def import_latent(latent: Path, like: Path) -> Seed:
    """The seed that a `.latent` file holds, where ComfyUI starts from its latents as they are.

    Args:
        latent: a file of ComfyUI's SaveLatent, or of `save_export`.
        like: a seed file of the same model, prompt, grid and size, whose header the seed takes.

    Raises:
        InputError: a file can't be read, or they don't fit together.
    """
    seed = load_seed(like)
    try:
        tensors = load_file(latent)
        grid, scale = grid_of(seed.header), scale_of(seed.header)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{latent}: not a whole .latent file of ComfyUI ({error})") from error
    except ValueError as error:
        raise InputError(f"{like}: no latents of ComfyUI fit its seed: {error}") from error
    if grid.flow:
        raise InputError(
            f"{like}: ComfyUI ignores latents where a flow model starts; keep the seed file itself"
        )
    values = tensors.get("latent_tensor")
    if values is None or values.shape != seed.latents.shape or not values.float().isfinite().all():
        raise InputError(
            f"{latent}: has no finite latents of the shape {tuple(seed.latents.shape)} that {like} has"
        )
    multiplier = 1.0 if "latent_format_version_0" in tensors else 1 / 0.18215
    own = {"edit", "photo", "steps", "boost", "guidance_curve", "health", "plain_health", "inversion"}
    header = {name: value for name, value in seed.header.items() if name not in own}
    noise = values.float() * (multiplier * scale / grid.factor)
    return Seed(noise, torch.zeros_like(noise), header)
