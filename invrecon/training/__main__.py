"""The recipe: `python -m invrecon.training prepare | autoencoder | denoiser | export | judge`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from diffusers import AutoencoderKL, AutoModel, StableDiffusionPipeline

from invrecon.models.latent_space import load_autoencoder
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
Vae = Annotated[
    Path | None, typer.Option(help="folder of another autoencoder, taken as it is in place of the run's own")
]
Small = Annotated[bool, typer.Option("--small", help="few weights and pictures of 128 pixels: for a CPU")]


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
    seconds: Annotated[
        float | None, typer.Option(help="as of autoencoder; 12 hours, or --small 20 minutes")
    ] = None,
    pace: float = 1.0,
    start_from: StartFrom = None,
    vae: Vae = None,
    small: Small = False,
) -> None:
    """Encodes the pictures once, then trains the U-Net and the text encoder, rates times --pace; a run that
    was stopped goes on.
    """
    run = replace(_run(small, vae), device=device, start_from=start_from)
    run = replace(run, muon_rate=pace * run.muon_rate, adam_rate=pace * run.adam_rate)
    run = replace(run, seconds=seconds or (run.seconds if small else 12 * 3600))
    latents = folder / "latents.safetensors"
    if not latents.exists():
        encoder = (
            load_autoencoder(vae, device).encode
            if vae
            else autoencoders.encoder(_own_autoencoder(folder), device)
        )
        denoisers.encode(Corpus(folder / "data", seed=7, device=device), encoder, latents, run)
    denoisers.train(latents, tokenizers.load(folder / "tokenizer"), folder / "denoiser.safetensors", run)


@app.command()
def export(
    folder: Folder,
    out: Annotated[Path, typer.Argument(help="folder for the checkpoint")],
    vae: Vae = None,
    small: Small = False,
) -> None:
    """Writes the checkpoint in the diffusers layout; --vae and --small as in training."""
    tokenizer = tokenizers.load(folder / "tokenizer")
    models, scale = denoisers.load(
        folder / "latents.safetensors",
        folder / "denoiser.safetensors",
        len(tokenizer),
        _run(small, vae),
    )
    autoencoder = AutoModel.from_pretrained(str(vae)) if vae else _own_autoencoder(folder)
    exporting.export(autoencoder, models, None if vae else scale, tokenizer, out)
    typer.echo(f"wrote {out}")


def _run(small: bool, vae: Path | None) -> denoisers.DenoiserRun:
    return replace(denoisers.SMALL if small else denoisers.DenoiserRun(), scaled=vae is None)


def _own_autoencoder(folder: Path) -> AutoencoderKL:
    return autoencoders.load(folder / "autoencoder.safetensors", autoencoders.AutoencoderRun())


@app.command()
def judge(
    folder: Folder,
    model: Annotated[Path, typer.Argument(help="diffusers folder whose samples are judged")],
    seconds: Seconds = 600,
    device: Device = "cpu",
) -> None:
    """Trains a judge, once, and prints in how many of 200 samples it finds what the prompt asks for; training
    that was stopped goes on.
    """
    corpus = Corpus(folder / "data", seed=99, device=device)
    judged = judges.train(corpus, judges.NOUNS, folder / "judge.safetensors", seconds)
    pipeline = StableDiffusionPipeline.from_pretrained(model).to(device)
    typer.echo(f"composed scenes: {judges.on_scenes(judged, corpus)}")
    typer.echo(f"samples: {judges.on_samples(judged, pipeline, corpus)}")


if __name__ == "__main__":
    torch.manual_seed(0)
    app()
