"""`invrecon models`: the cards, where a checkpoint lies, and whether it works here."""

from dataclasses import asdict
from typing import Annotated

import typer

from invrecon.cli.batch import load
from invrecon.cli.boundary import say
from invrecon.cli.command import command
from invrecon.cli.output import Output, put
from invrecon.settings import Checkpoint, Settings, settings_of

_FAILED = "there is no such model, or it can't be used"
_WHERE = [name for name in settings_of(Checkpoint) if name != "model"]

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="A card's name, a diffusers folder, a .safetensors file, or a hub id."
    ),
]


@command(name="list", examples=["invrecon models list"], codes={})
def list_models() -> int:
    """Print the cards: name, checkpoint, and the hub id that it is fetched from.

    Nothing is fetched until such a name is given to --model, `models path` or `models check`.
    """
    from invrecon.models.cards import cards

    for name, card in cards().items():
        put(f"{name:<14}{card.title:<44}{card.hub or 'bundled'}")
    return 0


@command(
    name="show",
    examples=["invrecon models show sdxl", "invrecon models show mini"],
    codes={0: "the card is printed", 2: _FAILED},
)
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
        "autoencoder": "float32",
        "memory": card.memory,
        "note": card.note or "-",
    }
    for title, value in (rows | card.settings).items():
        put(f"{title:<22}{value}")
    return 0


@command(
    name="path",
    examples=["invrecon models path mini", 'ls "$(invrecon models path mini)"'],
    codes={0: "the folder is printed", 2: _FAILED},
    only=["revision", "variant", "base"],
)
def print_path(model: Name, *, settings: Settings) -> int:
    """Print the folder of a checkpoint, or the file of a single one; what is on the hub is fetched first."""
    from invrecon.models import model_folder

    put(str(model_folder(model, settings.revision, settings.variant, settings.base)))
    return 0


@command(
    name="check",
    examples=[
        "invrecon models check mini",
        "invrecon models check ~/checkpoints/my-sdxl --dtype float16",
        "invrecon models check model.safetensors --base ~/checkpoints/sd15",
        "invrecon models check sdxl-turbo --revision main",
    ],
    codes={0: "it works", 2: _FAILED},
    only=[*_WHERE, "sampler", "device", "dtype", "offload", "tiling"],
)
def check_model(model: Name, output: Output, *, settings: Settings) -> int:
    """Load a checkpoint, send a picture there and back in two steps, and say what was found."""
    from invrecon.pipeline.checkup import check

    found = asdict(check(load(settings, output), settings))
    output.record({"model": model} | found)
    for title, value in found.items():
        output.line(f"{title.replace('_', ' '):<22}{_text(value)}")
    if found["converged_steps"] < 2:
        say(
            f"warning: {model}: steps so large did not converge, as can be without harm; "
            "more of them are easier"
        )
    return 0


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
