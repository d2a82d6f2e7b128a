"""`invrecon models`: the cards, where a checkpoint lies, and whether it works here."""

import json
import math
from dataclasses import asdict
from typing import Annotated

import typer

from invrecon.cli import options
from invrecon.cli.batch import load
from invrecon.cli.boundary import say
from invrecon.cli.output import strict
from invrecon.settings import Settings

_CODES = """\b
Exit codes:
  0  {done}
  2  there is no such model, or it can't be used"""
LIST_EPILOG = "\b\nExample:\n  invrecon models list"
SHOW_EPILOG = "\b\nExamples:\n  invrecon models show sdxl\n  invrecon models show mini\n\n" + _CODES.format(
    done="the card is printed"
)
PATH_EPILOG = """\b
Examples:
  invrecon models path mini
  ls "$(invrecon models path mini)"

""" + _CODES.format(done="the folder is printed")
CHECK_EPILOG = (
    """\b
Examples:
  invrecon models check mini
  invrecon models check ~/checkpoints/my-sdxl --dtype float16
  invrecon models check model.safetensors --base ~/checkpoints/sd15
  invrecon models check sdxl-turbo --revision main

"""
    + _CODES.format(done="it works")
    + "\n  3  it loads, but what comes back is not finite"
)

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="A card's name, a diffusers folder, a .safetensors file, or a hub id."
    ),
]


def list_models() -> int:
    """Print the cards: name, checkpoint, and the hub id that it is fetched from.

    Nothing is fetched until such a name is given to --model, `models path` or `models check`.
    """
    from invrecon.models.cards import cards

    for name, card in cards().items():
        typer.echo(f"{name:<14}{card.title:<44}{card.hub or 'bundled'}")
    return 0


def show_model(name: Annotated[str, typer.Argument(metavar="NAME", help="A card's name.")]) -> int:
    """Print a card: the settings that suit a checkpoint, which are the defaults when --model names it."""
    from invrecon.models.cards import cards

    if name not in cards():
        say(f"no card {name!r}: there are {', '.join(cards())}")
        return 2
    card = cards()[name]
    rows = {
        "checkpoint": card.title,
        "family": card.family,
        "hub id": card.hub or "bundled",
        "prediction": card.prediction,
    }
    rows |= {"autoencoder": "float32", "memory": card.memory, "note": card.note or "-"}
    for title, value in (rows | card.settings).items():
        typer.echo(f"{title:<22}{value}")
    return 0


def print_path(
    name: Name, revision: Annotated[str, typer.Option("--revision", help="Of a hub id.")] = ""
) -> int:
    """Print the folder of a checkpoint; one on the hub is fetched first."""
    from invrecon.models import model_folder

    typer.echo(model_folder(name, revision))
    return 0


@options.takes_settings("revision", "variant", "base", "sampler", "device", "dtype", "offload", "tiling")
def check_model(
    name: Name,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    quiet: options.Quiet = False,
    *,
    settings: Settings,
) -> int:
    """Load a checkpoint, send a picture there and back in two steps, and say what was found."""
    from invrecon.pipeline.checkup import check

    found = asdict(check(load(settings, quiet), settings))
    if as_json:
        typer.echo(json.dumps(strict({"model": name, **found})))
    elif not quiet:
        for title, value in found.items():
            typer.echo(f"{title.replace('_', ' '):<22}{_text(value)}")
    fidelity = found["latent_fidelity_db"]
    if math.isnan(fidelity):
        say(f"{name}: the result is not finite; try --dtype float32")
        return 3
    if found["converged_steps"] < 2:
        say(
            f"warning: {name}: steps so large did not converge, as can be without harm; more of them are easier"
        )
    return 0


def _text(value: object) -> str:
    return (
        f"{value:.1f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
    )
