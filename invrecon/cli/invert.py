"""`invrecon invert`: photos to seed files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from invrecon.cli import options
from invrecon.cli.batch import Files, exit_code, is_seed_name, run_batch
from invrecon.cli.boundary import EXIT_CODES
from invrecon.cli.output import Row, inversion_figures
from invrecon.config import Settings
from invrecon.errors import InputError

if TYPE_CHECKING:
    from invrecon.models import Model
    from invrecon.pipeline import OnProgress

EPILOG = f"""\b
Examples:
  invrecon invert photo.jpg
  invrecon invert *.jpg --out seeds --json > seeds.jsonl
  invrecon invert photo.jpg --config configs/smoke.toml

{EXIT_CODES}"""


def invert(
    context: typer.Context,
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO", help="Photos in any common format.")],
    out: options.Out = Path("."),
    force: options.Force = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
    model: options.Model = None,
    prompt: options.Prompt = None,
    negative_prompt: options.NegativePrompt = None,
    num_inference_steps: options.Steps = None,
    guidance_scale: options.GuidanceScale = None,
    solver: options.Solver = None,
    rtol: options.Rtol = None,
    max_evaluations: options.MaxEvaluations = None,
    boost: options.BoostToo = False,
    boost_rounds: options.BoostRounds = None,
    decoder_steps: options.DecoderSteps = None,
    proximal_weight: options.ProximalWeight = None,
    perceptual_weight: options.PerceptualWeight = None,
    target_psnr: options.TargetPsnr = None,
    max_seconds: options.MaxSeconds = None,
    size: options.Size = None,
    fit: options.Fit = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    seed: options.Seed = None,
) -> int:
    """Find the seed noise of photos.

    Writes NAME.seed.safetensors for each photo.
    """
    settings = options.settings_of(context, config)
    return exit_code(run_batch(photos, _run, _name_files, settings, out=out, force=force, as_json=as_json, quiet=quiet))


def _name_files(source: Path, out: Path) -> Files:
    if is_seed_name(source):
        raise InputError("is a seed file already; `invrecon reconstruct` takes it")
    path = out / f"{source.stem}.seed.safetensors"
    return {"output": path, "seed_file": path}


def _run(source: Path, files: Files, model: "Model", settings: Settings, on_progress: "OnProgress") -> Row:
    from invrecon import pipeline
    from invrecon.seedfile import save_seed

    inversion = pipeline.invert(source, model, settings, on_progress)
    save_seed(inversion.seed, files["seed_file"])
    return inversion_figures(inversion)
