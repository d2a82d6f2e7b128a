"""The recipe: `python -m invrecon.training prepare | autoencoder | denoiser | export | judge`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from diffusers import StableDiffusionPipeline

from invrecon.training import autoencoder as autoencoders
from invrecon.training import data
from invrecon.training import denoiser as denoisers
from invrecon.training import export as exporting
from invrecon.training import judge as judges
from invrecon.training import tokenizer as tokenizers
from invrecon.training.scenes import Corpus

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
Folder = Annotated[Path, typer.Argument(help="folder of the run: data, checkpoints and tokenizer live in it")]
Device = Annotated[str, typer.Option(help="cpu or cuda")]
Seconds = Annotated[float, typer.Option(help="how long the run takes in all, stops apart")]
StartFrom = Annotated[
    Path | None, typer.Option(help="an exported checkpoint to go on from, in place of random weights")
]


@app.command()
def prepare(
    folder: Folder,
    root: Annotated[Path, typer.Option(help="where the packages of sources.toml were unpacked")],
) -> None:
    """Collects photos and cut-outs below --root, and learns the tokenizer from their captions."""
    typer.echo(f"collected {data.prepare(root, folder / 'data')}")
    tokenizers.learn(Corpus(folder / "data", seed=3).captions(6000), folder / "tokenizer")


@app.command()
def autoencoder(
    folder: Folder, device: Device = "cpu", seconds: Seconds = 4 * 3600, start_from: StartFrom = None
) -> None:
    """Trains the autoencoder; a run that was stopped goes on."""
    run = autoencoders.AutoencoderRun(device=device, seconds=seconds, start_from=start_from)
    corpus = Corpus(folder / "data", device=device)
    autoencoders.train(corpus, folder / "autoencoder.safetensors", run)


@app.command()
def denoiser(
    folder: Folder,
    device: Device = "cpu",
    seconds: Seconds = 12 * 3600,
    pace: float = 1.0,
    start_from: StartFrom = None,
) -> None:
    """Encodes the pictures once, then trains the U-Net and the text encoder, rates times --pace; a run that
    was stopped goes on.
    """
    run = denoisers.DenoiserRun(device=device, seconds=seconds, start_from=start_from)
    run = replace(run, muon_rate=pace * run.muon_rate, adam_rate=pace * run.adam_rate)
    latents = folder / "latents.safetensors"
    if not latents.exists():
        vae = autoencoders.load(folder / "autoencoder.safetensors", autoencoders.AutoencoderRun())
        denoisers.encode(Corpus(folder / "data", seed=7, device=device), vae, latents, run)
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


@app.command()
def judge(
    folder: Folder,
    model: Annotated[Path, typer.Argument(help="diffusers folder whose samples are judged")],
    steps: int = 1500,
    device: Device = "cpu",
) -> None:
    """Trains a judge, once, and prints in how many of 200 samples it finds what the prompt asks for."""
    corpus, state = Corpus(folder / "data", seed=99, device=device), folder / "judge.safetensors"
    if not state.exists():
        judges.train(corpus, judges.NOUNS, steps).save(state)
    judged = judges.load(state, judges.NOUNS).to(device)
    pipeline = StableDiffusionPipeline.from_pretrained(model).to(device)
    typer.echo(f"composed scenes: {judges.on_scenes(judged, corpus)}")
    typer.echo(f"samples: {judges.on_samples(judged, pipeline, corpus)}")


if __name__ == "__main__":
    torch.manual_seed(0)
    app()
