"""Settings of a run: defaults, TOML presets, and checks, all in one place."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from invrecon.errors import UsageError
from invrecon.toml import tomllib

SAMPLERS = ("auto", "ddim", "euler", "dpm++")
SOLVERS = ("auto", "anderson", "picard", "adam")
FITS = ("crop", "pad", "stretch")
DEVICES = ("auto", "cuda", "cpu", "mps")
OFFLOADS = ("none", "model", "sequential")
DTYPES = ("float32", "float16", "bfloat16")
PATH_KINDS = ("shell", "slerp", "linear")
OR_AUTO: dict[str, type] = {"batch_size": int, "proximal_weight": float}


@dataclass(frozen=True)
class Settings:
    """What shapes a result.

    Args:
        model: a card's name, a diffusers folder, a .safetensors file, or a hub id.
        revision, variant: of a hub id; variant ("fp16") of a folder's weights too.
        base: for a single file, the diffusers folder or hub id that its configuration and tokenizers are taken from.
        prompt, negative_prompt: what the network is told, on the way up and down alike.
        num_inference_steps: steps of the sampler, 1 to 1000.
        guidance_scale: w >= 1; 1 means no guidance.
        auto_guidance: whether to find the guidance scale instead, the largest that still regenerates the photo; in presets,
            guidance_scale = "auto" says the same.
        guidance_loss: so many dB of PSNR it may cost, against what the autoencoder alone leaves of the photo.
        max_guidance: the largest scale that is tried.
        sampler: "auto" takes what the checkpoint's own scheduler stands for.
        solver: how each step's latent bias is found.
        rtol: relative error of the regenerated latents that all steps together may add up to; each has its share.
        max_evaluations: budget of iterations a step.
        mean_evaluations: budget of network evaluations a step, on average; where given, it is spent down to rounding, whatever `rtol`
            says.
        boost: whether the image latents are boosted (ILB); `invert` does so only where it is asked to.
        boost_rounds, decoder_steps: re-inversions, and passes through the decoder before each; fewer where they stop gaining.
        proximal_weight: λ of the term that keeps boosted latents where the network knows them (see `core.ilb.boosting`); "auto" takes
            little, and keeps the seed from being much louder than noise by the gradient of a rough inversion's norm; a number doesn't.
        perceptual_weight: of 1 - SSIM beside the squared error of the pixels in [-1, 1].
        target_psnr, max_seconds: boosting stops as soon as it is so good, or has taken so long; photos of a batch share one clock.
        decoder_ceiling: whether to find what the decoder could give at best; slow.
        size: side of the square that the model sees, pixels, a multiple of 8 from 64 to 2048.
        fit: how a photo is laid on that square.
        device, dtype: where and in what precision the networks run; latents are float32 throughout.
        offload: "model" or "sequential" keeps parts on the CPU while they don't work; CUDA only.
        tiling: whether the autoencoder works in tiles; less memory.
        batch_size: photos that go through the network at once; "auto": 1, on CUDA as many as fit in half of the free memory, 16 at most.
        compile: whether torch.compile makes a program of the network first, which takes minutes and needs a compiler.
        seed: of torch's generators. Inversion draws nothing at random.
    """

    model: str = "mini"
    revision: str = ""
    variant: str = ""
    base: str = ""
    prompt: str = ""
    negative_prompt: str = ""
    num_inference_steps: int = 50
    guidance_scale: float = 1.0
    auto_guidance: bool = False
    guidance_loss: float = 0.1
    max_guidance: float = 15.0
    sampler: Literal["auto", "ddim", "euler", "dpm++"] = "auto"
    solver: Literal["auto", "anderson", "picard", "adam"] = "auto"
    rtol: float = 1.8e-3
    max_evaluations: int = 60
    mean_evaluations: float = math.inf
    boost: bool = True
    boost_rounds: int = 1
    decoder_steps: int = 160
    proximal_weight: float | str = "auto"
    perceptual_weight: float = 0.0
    target_psnr: float = math.inf
    max_seconds: float = math.inf
    decoder_ceiling: bool = False
    size: int = 256
    fit: Literal["crop", "pad", "stretch"] = "crop"
    device: Literal["auto", "cuda", "cpu", "mps"] = "auto"
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    offload: Literal["none", "model", "sequential"] = "none"
    tiling: bool = False
    batch_size: int | str = "auto"
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        choices = {
            "sampler": SAMPLERS,
            "solver": SOLVERS,
            "fit": FITS,
            "device": DEVICES,
            "dtype": DTYPES,
            "offload": OFFLOADS,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        for name, low, high in (
            ("num_inference_steps", 1, 1000),
            ("guidance_scale", 1, 100),
            ("guidance_loss", 0, 100),
            ("max_guidance", 1, 100),
            ("rtol", 1e-12, 1),
            ("max_evaluations", 1, 10_000),
            ("mean_evaluations", 2, math.inf),
            ("boost_rounds", 0, 100),
            ("decoder_steps", 1, 10_000),
            ("perceptual_weight", 0, 1e6),
            ("target_psnr", 0, math.inf),
            ("max_seconds", 0, math.inf),
            ("size", 64, 2048),
            ("seed", 0, 2**63 - 1),
        ):
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"{name} must lie between {low} and {high}, not {getattr(self, name)}")
        for name, low, high in (("batch_size", 1, 1024), ("proximal_weight", 0, 1e6)):
            value = getattr(self, name)
            if value != "auto" and not (type(value) in (int, OR_AUTO[name]) and low <= value <= high):
                raise UsageError(f"{name} must be auto or lie between {low} and {high}, not {value}")
        if self.auto_guidance and self.prompt == self.negative_prompt:
            raise UsageError(
                "guidance does nothing where prompt and negative prompt are alike: say what the photo shows with --prompt"
            )
        if self.size % 8:
            raise UsageError(f"size must be a multiple of 8, not {self.size}; try {round(self.size / 8) * 8}")
        if self.compile and self.offload != "none":
            raise UsageError("a compiled network has to stay on its device: leave out --compile or --offload")


@dataclass(frozen=True)
class Imagining:
    """Which new seeds are made of the references'.

    Args:
        count: pictures, 1 to 999.
        spread: angle between a new seed and the references' mean that it starts from, in right angles, 0 to 1: with 0 it is that
            mean, with 1 it is noise that knows nothing of the references.
        refine: gradients that draw each seed towards the nearest reference's image latents, 0 to 1000.
        frames: pictures of a path, its ends among them, 2 to 999.
        path_kind: "shell" keeps to the Gaussian shell, "slerp" to the norms of the ends, "linear" to neither.
    """

    count: int = 8
    spread: float = 0.3
    refine: int = 0
    frames: int = 9
    path_kind: Literal["shell", "slerp", "linear"] = "shell"

    def __post_init__(self) -> None:
        if self.path_kind not in PATH_KINDS:
            raise UsageError(f"path kind must be one of {', '.join(PATH_KINDS)}, not {self.path_kind!r}")
        for name, low, high in (("count", 1, 999), ("spread", 0, 1), ("refine", 0, 1000), ("frames", 2, 999)):
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"{name} must lie between {low} and {high}, not {getattr(self, name)}")


def load_settings(
    path: Path | None = None, by_model: Callable[[str], dict[str, Any]] | None = None, **overrides: Any
) -> Settings:
    """Settings from a TOML preset, then from `overrides` that are not None. A table of the preset is left to `load_table`.

    Args:
        by_model: the settings that suit a model, by its name; they give way to preset and overrides.

    Raises:
        UsageError: the file is missing, isn't TOML, or holds a key or value that settings don't have.
    """
    values = _spelled(
        {key: value for key, value in _read(path).items() if not isinstance(value, dict)} if path else {}
    )
    given = _spelled({key: value for key, value in overrides.items() if value is not None})
    suited = by_model(given.get("model", values.get("model", Settings.model))) if by_model else {}
    return Settings(**suited | _checked(values, path) | given)


def _spelled(values: dict[str, Any]) -> dict[str, Any]:
    """guidance_scale = "auto", or a number that ends an earlier "auto", as settings hold it."""
    match values:
        case {"guidance_scale": "auto", **others}:
            return others | {"auto_guidance": True}
        case {"guidance_scale": _}:
            return {"auto_guidance": False} | values
    return values


def load_table(path: Path | None, name: str) -> dict[str, Any]:
    """The table `[name]` of a TOML preset; empty where there is none.

    Raises:
        UsageError: the file is missing or isn't TOML.
    """
    table = _read(path).get(name, {}) if path else {}
    return table if isinstance(table, dict) else {}


def load_captions(path: Path) -> dict[str, str]:
    """Names of files and what they show, from TOML or JSON.

    Raises:
        UsageError: the file is missing, or is anything else.
    """
    if path.suffix.lower() == ".json":
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"can't read {path} as JSON: {error}") from error
    else:
        found = _read(path)
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise UsageError(f"{path}: must hold a text for each name, and nothing else")
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"can't read the preset {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} isn't valid TOML: {error}") from error


def _checked(values: dict[str, Any], path: Path | None) -> dict[str, Any]:
    kinds = {field.name: type(field.default) for field in fields(Settings)}
    for key, value in values.items():
        if key not in kinds:
            raise UsageError(f"{path}: unknown setting {key!r}; known are {', '.join(kinds)}")
        kind = OR_AUTO[key] if key in OR_AUTO and value != "auto" else kinds[key]
        if kind is float and type(value) is int:
            values[key] = float(value)
        elif type(value) is not kind:
            raise UsageError(f"{path}: {key} must be of type {kind.__name__}, not {type(value).__name__}")
    return values
