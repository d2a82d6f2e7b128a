"""The options that commands share, and the settings that follow from them."""

import math
from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from invrecon.config import DEVICES, DTYPES, FITS, OFFLOADS, SAMPLERS, SOLVERS, Settings, load_settings
from invrecon.models.cards import card_settings


def _setting(flag: str, name: str, text: str, choices: tuple[str, ...] = (), **more: Any) -> Any:
    """An option that overrides the setting `name`; None where it isn't given, so that presets count."""
    default = getattr(Settings, name)
    metavar = None if isinstance(default, bool) else "|".join(choices) or type(default).__name__.upper()
    shown = (
        "empty"
        if default == ""
        else "none"
        if default == math.inf
        else ("off", "on")[default]
        if isinstance(default, bool)
        else default
    )
    return typer.Option(flag, **{"metavar": metavar} | more, help=f"{text} [default: {shown}]")


def _or_auto(kind: Callable[[str], float]) -> Callable[[str], float | str]:
    """A parser of numbers of that kind, and of the word auto."""

    def parse(text: str) -> float | str:
        try:
            return text if text == "auto" else kind(text)
        except ValueError as error:
            raise typer.BadParameter(
                f"must be {'a whole' if kind is int else 'a'} number or auto, not {text!r}"
            ) from error

    return parse


Out = Annotated[
    Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the results, made as needed.")
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite results that exist.")]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume", help="Take over what an earlier run with --resume finished with the same settings."
    ),
]
MinPsnr = Annotated[
    float | None,
    typer.Option(
        "--min-psnr", metavar="DB", help="Exit with 3 where a photo's result falls short of this PSNR."
    ),
]
Photos = Annotated[
    list[Path] | None,
    typer.Option(
        "--photo", metavar="PHOTO", help="What a seed file was made from; one for each, in their order."
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object a line for each input, and nothing else.")
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress bars and no table; warnings and errors stay.")
]
Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE.toml", help="Preset; options given here override it.")
]

GUIDANCE_SEARCH = ("guidance_loss", "max_guidance")

_SETTINGS: dict[str, Any] = {  # of the settings' names, in the order of --help
    "model": _setting(
        "--model", "model", "A card's name, a diffusers folder, a .safetensors file, or a hub id."
    ),
    "revision": _setting("--revision", "revision", "Branch, tag or commit of a hub id."),
    "variant": _setting("--variant", "variant", "Of the weights of a hub id or folder: fp16."),
    "base": _setting(
        "--base", "base", "Diffusers folder or hub id that a single file's configuration is taken from."
    ),
    "prompt": _setting("--prompt", "prompt", "What the photo shows."),
    "negative_prompt": _setting("--negative-prompt", "negative_prompt", "What guidance leads away from."),
    "num_inference_steps": _setting("--steps", "num_inference_steps", "Steps of the sampler."),
    "guidance_scale": _setting(
        "--guidance-scale",
        "guidance_scale",
        "1 means no guidance; auto finds the most that --guidance-loss allows.",
        metavar="FLOAT|auto",
        parser=_or_auto(float),
    ),
    "guidance_loss": _setting(
        "--guidance-loss", "guidance_loss", "auto: dB of PSNR it may cost against the autoencoder alone."
    ),
    "max_guidance": _setting(
        "--max-guidance", "max_guidance", "auto: the largest scale to try; each try is an inversion."
    ),
    "sampler": _setting(
        "--sampler", "sampler", "Sampler that the seed is for; auto is the checkpoint's own.", SAMPLERS
    ),
    "solver": _setting("--solver", "solver", "How each step's latent bias is found.", SOLVERS),
    "rtol": _setting(
        "--rtol", "rtol", "Relative error of the latents that all steps together may add up to."
    ),
    "max_evaluations": _setting("--max-evaluations", "max_evaluations", "Budget of iterations a step."),
    "mean_evaluations": _setting(
        "--mean-evaluations", "mean_evaluations", "Spend so many network evaluations a step, on average."
    ),
    "boost": _setting(
        "--boost/--no-boost", "boost", "Boost the image latents above the autoencoder's own (ILB)."
    ),
    "boost_rounds": _setting("--boost-rounds", "boost_rounds", "Inversions after the first one."),
    "decoder_steps": _setting(
        "--decoder-steps", "decoder_steps", "Passes through the decoder before each of them, at most."
    ),
    "proximal_weight": _setting(
        "--proximal-weight",
        "proximal_weight",
        "Keeps boosted latents where the network knows them; auto takes little, and limits the seed's loudness too.",
        metavar="FLOAT|auto",
        parser=_or_auto(float),
    ),
    "perceptual_weight": _setting("--perceptual-weight", "perceptual_weight", "Of 1 - SSIM in boosting."),
    "target_psnr": _setting("--target-psnr", "target_psnr", "Stop boosting at so many dB."),
    "max_seconds": _setting("--max-seconds", "max_seconds", "Stop boosting after so long."),
    "decoder_ceiling": _setting(
        "--decoder-ceiling/--no-decoder-ceiling", "decoder_ceiling", "Find the decoder's best too; slow."
    ),
    "size": _setting("--size", "size", "Side of the square that the model sees, a multiple of 8."),
    "fit": _setting("--fit", "fit", "How a photo is laid on that square.", FITS),
    "device": _setting("--device", "device", "Where the networks run.", DEVICES),
    "dtype": _setting("--dtype", "dtype", "In what precision the networks run.", DTYPES),
    "offload": _setting(
        "--offload", "offload", "Keep idle parts on the CPU; needs CUDA and accelerate.", OFFLOADS
    ),
    "tiling": _setting("--tiling/--no-tiling", "tiling", "Let the autoencoder work in tiles; less memory."),
    "batch_size": _setting(
        "--batch-size",
        "batch_size",
        "Photos inverted at once; auto is 1, on CUDA as many as half of the free memory takes.",
        metavar="INT|auto",
        parser=_or_auto(int),
    ),
    "compile": _setting(
        "--compile/--no-compile",
        "compile",
        "Let torch.compile make a program of the network; minutes, then faster.",
    ),
    "seed": _setting("--seed", "seed", "Seed of the random generators; inversion draws nothing at random."),
}


def takes_settings(
    *chosen: str, without: tuple[str, ...] = ()
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Gives a command --config and an option for each chosen setting: for all but those of `without` where none is chosen.

    A command without --model whose parameter `name` is a model's takes its card from there.
    The command itself has one parameter `settings`, of keyword kind, in their place, and may have one `config`, the preset's path.
    What a user doesn't give is left to the preset.
    """
    names = [name for name in chosen or _SETTINGS if name not in without]

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        @wraps(command)
        def run(config: Path | None = None, **given: Any) -> int:
            overrides = {name: given.pop(name) for name in names}
            if "model" not in names and "name" in given:
                overrides["model"] = given["name"]
            preset = {"config": config} if "config" in known else {}
            return command(settings=load_settings(config, card_settings, **overrides), **preset, **given)

        known = signature(command).parameters
        own = [parameter for parameter in known.values() if parameter.name not in ("settings", "config")]
        added = {"config": Config} | {
            name: Annotated[type(getattr(Settings, name)) | None, _SETTINGS[name]] for name in names
        }
        options = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=kind)
            for name, kind in added.items()
        ]
        parameters = [*(one.replace(kind=Parameter.KEYWORD_ONLY) for one in own), *options]
        run.__signature__ = Signature(parameters, return_annotation=int)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate
