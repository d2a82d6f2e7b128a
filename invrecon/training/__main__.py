"""The recipe, step by step: `python -m invrecon.training prepare | autoencoder | denoiser | export`."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from invrecon.training import autoencoder as autoencoders
from invrecon.training import data
from invrecon.training import denoiser as denoisers
from invrecon.training import export as exporting
from invrecon.training import tokenizer as tokenizers

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
Folder = Annotated[Path, typer.Argument(help="folder of the run: data, checkpoints and tokenizer live in it")]
Device = Annotated[str, typer.Option(help="cpu or cuda")]
StartFrom = Annotated[
    Path | None, typer.Option(help="an exported checkpoint to go on from, in place of random weights")
]


@app.command()
def prepare(
    folder: Folder,
    root: Annotated[Path, typer.Option(help="where the packages of sources.toml were unpacked")],
    start_from: StartFrom = None,
) -> None:
    """Collects photos and cut-outs below --root, and learns the tokenizer from their captions or takes that
    of --start-from.
    """
    typer.echo(f"collected {data.prepare(root, folder / 'data')}")
    if start_from:
        shutil.copytree(start_from / "tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    else:
        tokenizers.learn(data.Corpus(folder / "data", seed=3).captions(6000), folder / "tokenizer")


@app.command()
def autoencoder(
    folder: Folder,
    device: Device = "cpu",
    steps: int | None = None,
    adversarial_steps: int | None = None,
    start_from: StartFrom = None,
) -> None:
    """Trains the autoencoder; a run that was stopped goes on. Encoder settled, decoder trained on with
    --adversarial-steps.
    """
    run = autoencoders.AutoencoderRun(device=device, start_from=start_from)
    run = replace(
        run,
        steps=run.steps if steps is None else steps,
        adversarial_steps=run.adversarial_steps if adversarial_steps is None else adversarial_steps,
    )
    autoencoders.train(folder / "data", folder / "autoencoder.safetensors", run)


@app.command()
def denoiser(
    folder: Folder,
    device: Device = "cpu",
    steps: int | None = None,
    pace: float = 1.0,
    start_from: StartFrom = None,
) -> None:
    """Encodes the pictures once, then trains the U-Net and the text encoder, rates times --pace; a run that
    was stopped goes on.
    """
    run = denoisers.DenoiserRun(device=device, start_from=start_from)
    run = replace(
        run,
        steps=run.steps if steps is None else steps,
        muon_rate=pace * run.muon_rate,
        adam_rate=pace * run.adam_rate,
    )
    latents = folder / "latents.safetensors"
    if not latents.exists():
        vae = autoencoders.load(folder / "autoencoder.safetensors", autoencoders.AutoencoderRun())
        denoisers.encode(folder / "data", vae, latents, run)
    denoisers.train(latents, tokenizers.load(folder / "tokenizer"), folder / "denoiser.safetensors", run)


@app.command()
def export(folder: Folder, out: Annotated[Path, typer.Argument(help="folder for the checkpoint")]) -> None:
    """Writes the checkpoint in the diffusers layout."""
    vae = autoencoders.load(folder / "autoencoder.safetensors", autoencoders.AutoencoderRun())
    tokenizer = tokenizers.load(folder / "tokenizer")
    models, scale = denoisers.load(
        folder / "latents.safetensors",
        folder / "denoiser.safetensors",
        len(tokenizer),
        denoisers.DenoiserRun(),
    )
    exporting.export(vae, models, scale, tokenizer, out)
    typer.echo(f"wrote {out}")


if __name__ == "__main__":
    torch.manual_seed(0)
    app()
