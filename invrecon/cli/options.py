"""The options that commands share, and the settings that follow from them."""

import math
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from invrecon.config import DEVICES, DTYPES, FITS, SOLVERS, Settings, load_settings


def _setting(flag: str, name: str, text: str, choices: tuple[str, ...] = ()) -> Any:
    """An option that overrides the setting `name`; None where it isn't given, so that presets count."""
    default = getattr(Settings, name)
    metavar = None if isinstance(default, bool) else "|".join(choices) or type(default).__name__.upper()
    shown = (
        "empty" if default == "" else "none" if default == math.inf else ("off", "on")[default] if isinstance(default, bool) else default
    )
    return typer.Option(flag, metavar=metavar, help=f"{text} [default: {shown}]")


Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the results, made as needed.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite results that exist.")]
MinPsnr = Annotated[
    float | None, typer.Option("--min-psnr", metavar="DB", help="Exit with 3 where a photo's result falls short of this PSNR.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object a line for each input, and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars and no table; warnings and errors stay.")]
Config = Annotated[Path | None, typer.Option("--config", metavar="FILE.toml", help="Preset; options given here override it.")]

Model = Annotated[str | None, _setting("--model", "model", "A bundled model's name, or a diffusers folder.")]
Prompt = Annotated[str | None, _setting("--prompt", "prompt", "What the photo shows.")]
NegativePrompt = Annotated[str | None, _setting("--negative-prompt", "negative_prompt", "What guidance leads away from.")]
Steps = Annotated[int | None, _setting("--steps", "num_inference_steps", "Steps of the sampler.")]
GuidanceScale = Annotated[float | None, _setting("--guidance-scale", "guidance_scale", "1 means no guidance.")]
Solver = Annotated[str | None, _setting("--solver", "solver", "How each step's latent bias is found.", SOLVERS)]
Rtol = Annotated[float | None, _setting("--rtol", "rtol", "Relative error of the latents that all steps together may add up to.")]
MaxEvaluations = Annotated[int | None, _setting("--max-evaluations", "max_evaluations", "Budget of iterations a step.")]
Boost = Annotated[bool | None, _setting("--boost/--no-boost", "boost", "Boost the image latents above the autoencoder's own (ILB).")]
BoostToo = Annotated[bool, typer.Option("--boost", help="Boost the image latents above the autoencoder's own (ILB).")]
BoostRounds = Annotated[int | None, _setting("--boost-rounds", "boost_rounds", "Inversions after the first one.")]
DecoderSteps = Annotated[int | None, _setting("--decoder-steps", "decoder_steps", "Passes through the decoder before each of them.")]
ProximalWeight = Annotated[float | None, _setting("--proximal-weight", "proximal_weight", "Keeps boosted latents near the encoder's.")]
PerceptualWeight = Annotated[float | None, _setting("--perceptual-weight", "perceptual_weight", "Of 1 - SSIM in boosting.")]
TargetPsnr = Annotated[float | None, _setting("--target-psnr", "target_psnr", "Stop boosting at so many dB.")]
MaxSeconds = Annotated[float | None, _setting("--max-seconds", "max_seconds", "Stop boosting after so long.")]
DecoderCeiling = Annotated[
    bool | None, _setting("--decoder-ceiling/--no-decoder-ceiling", "decoder_ceiling", "Find the decoder's best too; slow.")
]
Size = Annotated[int | None, _setting("--size", "size", "Side of the square that the model sees, a multiple of 8.")]
Fit = Annotated[str | None, _setting("--fit", "fit", "How a photo is laid on that square.", FITS)]
Device = Annotated[str | None, _setting("--device", "device", "Where the networks run.", DEVICES)]
Dtype = Annotated[str | None, _setting("--dtype", "dtype", "In what precision the networks run.", DTYPES)]
Seed = Annotated[int | None, _setting("--seed", "seed", "Seed of the random generators; inversion draws nothing at random.")]


def settings_of(context: typer.Context, preset: Path | None) -> Settings:
    """The settings of `preset`, overridden by each given option whose parameter is named as a setting."""
    return load_settings(preset, **{field.name: context.params.get(field.name) for field in fields(Settings)})
