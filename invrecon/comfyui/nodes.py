"""The nodes. ComfyUI's own modules are imported where they are used, so that this can be read without."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .grid import Grid, grid_of

ENDING = ".safetensors"


class SeedNoise:
    """NOISE as ComfyUI's advanced samplers take it: the noise of a seed, whatever their own seed says."""

    seed = 0

    def __init__(self, noise: Tensor) -> None:
        self.noise = noise

    def generate_noise(self, input_latent: dict[str, Any]) -> Tensor:
        """The seed's noise. Raises ValueError where the latents to start from have another shape."""
        shape = tuple(input_latent["samples"].shape)
        if shape != tuple(self.noise.shape):
            raise ValueError(f"the seed's latents are {tuple(self.noise.shape)}, those given are {shape}")
        return self.noise


class LoadSeed:
    """A seed file from ComfyUI's input folder."""

    CATEGORY = "invrecon"
    FUNCTION = "load"
    RETURN_TYPES = ("NOISE", "LATENT", "SIGMAS", "STRING", "STRING", "FLOAT")
    RETURN_NAMES = ("noise", "latent", "sigmas", "prompt", "negative_prompt", "cfg")
    DESCRIPTION = "The noise of a seed file of invrecon, its grid, its prompts and its guidance."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        """What ComfyUI asks of a node: the seed files there are."""
        import folder_paths

        files = sorted(path.name for path in Path(folder_paths.get_input_directory()).glob(f"*{ENDING}"))
        return {"required": {"seed_file": (files,)}, "optional": {"model": ("MODEL",)}}

    @classmethod
    def IS_CHANGED(cls, seed_file: str, **_: Any) -> str:  # noqa: N802
        """A file of the same name and other contents is read anew."""
        import folder_paths

        return hashlib.sha256(Path(folder_paths.get_annotated_filepath(seed_file)).read_bytes()).hexdigest()

    def load(self, seed_file: str, model: Any = None) -> tuple[Any, ...]:
        """Reads the file. Raises ValueError where it is no seed file, or can't be followed exactly."""
        import comfy.utils
        import folder_paths

        path = folder_paths.get_annotated_filepath(seed_file)
        tensors, metadata = comfy.utils.load_torch_file(path, safe_load=True, return_metadata=True)
        if not metadata or "invrecon" not in metadata or "latents" not in tensors:
            raise ValueError(f"{seed_file}: not a seed file of invrecon")
        header = json.loads(metadata["invrecon"])
        try:
            grid = grid_of(header)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{seed_file}: damaged seed file, or of another invrecon ({error})") from error
        start = grid.factor * tensors["latents"].float()
        noise = SeedNoise(start / start_factor(grid, model))
        samples = torch.zeros_like(start) if grid.flow else start / scale_of(header)
        if model is not None:
            _check_model(model, seed_file, header, start, grid)
        sigmas = torch.tensor(grid.sigmas, dtype=torch.float32)
        return (
            noise,
            {"samples": samples},
            sigmas,
            header["prompt"],
            header["negative_prompt"],
            header["guidance_scale"],
        )


def scale_of(header: dict[str, Any]) -> float:
    """By what latents are multiplied for the network. Raises ValueError where the header doesn't say."""
    scale = header.get("identity", {}).get("configuration", {}).get("vae", {}).get("scaling_factor")
    if not isinstance(scale, int | float) or scale <= 0:
        raise ValueError("the seed doesn't tell its autoencoder's scaling factor; invert the photo again")
    return float(scale)


def start_factor(grid: Grid, model: Any = None) -> float:
    """By what ComfyUI multiplies noise to start at the first sigma, with empty latents.

    That is sigma; sqrt(1 + sigma²) where sigma is the model's largest, which only the model tells.
    """
    sigma = grid.sigmas[0]
    if grid.flow or model is None:
        return sigma
    largest = float(model.get_model_object("model_sampling").sigma_max)
    return (1 + sigma**2) ** 0.5 if abs(largest - sigma) < 1e-5 * largest or sigma > largest else sigma


def _check_model(model: Any, name: str, header: dict[str, Any], start: Tensor, grid: Grid) -> None:
    """Raises ValueError where the model can't be the seed's. ComfyUI keeps no file of it to hash."""
    latent_format = model.get_model_object("latent_format")
    if latent_format.latent_channels != start.shape[1]:
        raise ValueError(
            f"{name}: the seed has {start.shape[1]} latent channels, and the model has "
            f"{latent_format.latent_channels}"
        )
    if grid.flow:
        return
    scale = scale_of(header)
    if abs(latent_format.scale_factor / scale - 1) > 1e-6:
        raise ValueError(
            f"{name}: the seed's autoencoder scales by {scale}, the model's by {latent_format.scale_factor}"
        )


NODE_CLASS_MAPPINGS = {"InvreconLoadSeed": LoadSeed}
NODE_DISPLAY_NAME_MAPPINGS = {"InvreconLoadSeed": "Load seed (invrecon)"}
