"""Puts trained parts into the ordinary diffusers folder: half precision, safetensors, small shards."""

import json
from pathlib import Path

from diffusers import ModelMixin, StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTokenizer

from invrecon.training.denoiser import scheduler
from invrecon.training.tokenizer import save_for_older


def export(
    vae: ModelMixin,
    denoiser: nn.ModuleDict,
    scale: float | None,
    tokenizer: CLIPTokenizer,
    folder: Path,
) -> None:
    """Writes `folder` so that `StableDiffusionPipeline.from_pretrained` reads it, with transformers 4 and 5.

    Args:
        vae: the autoencoder; `scale` becomes its scaling_factor, unless it is None.
        denoiser: `unet` and `text_encoder`.
        tokenizer: with which they were trained.
        folder: existing files of the same names are replaced.
    """
    if scale is not None:
        vae.register_to_config(scaling_factor=scale)
    pipeline = StableDiffusionPipeline(
        vae=vae.half(),
        unet=denoiser["unet"].half(),
        text_encoder=denoiser["text_encoder"].half(),
        tokenizer=tokenizer,
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True, max_shard_size="15MB")
    save_for_older(tokenizer, folder / "tokenizer")
    _prefix_text_encoder(folder / "text_encoder" / "model.safetensors")
    # transformers loads in the dtype that this file names, diffusers in float32 unless told: let them agree
    config = folder / "text_encoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "float32"}, indent=2) + "\n")


def _prefix_text_encoder(path: Path) -> None:
    """Calls weights text_model.*, as CLIP's checkpoints do: transformers 5 saves them without, and 4 then
    quietly draws random ones.
    """
    weights = {
        f"text_model.{name.removeprefix('text_model.')}": value for name, value in load_file(path).items()
    }
    save_file(weights, path, {"format": "pt"})
