"""The program `invrecon`: its commands, none of which imports torch before it works."""

import os
import sys
from importlib.metadata import PackageNotFoundError, version
from io import TextIOWrapper
from typing import Annotated

import typer

from invrecon.cli.audit import audit
from invrecon.cli.audit_edit import audit_edit
from invrecon.cli.boost import boost
from invrecon.cli.boundary import say
from invrecon.cli.command import CODES, epilog
from invrecon.cli.edit import edit
from invrecon.cli.export import export, import_
from invrecon.cli.imagine import imagine
from invrecon.cli.interrupt import end_on_interrupt
from invrecon.cli.invert import invert
from invrecon.cli.models import check_model, list_models, print_path, show_model
from invrecon.cli.output import unprintable
from invrecon.cli.reconstruct import reconstruct
from invrecon.cli.show import show
from invrecon.cli.speed import speed
from invrecon.cli.summary import summary
from invrecon.cli.ui import ui
from invrecon.cli.verify import verify

COMMANDS = (
    invert,
    reconstruct,
    boost,
    edit,
    verify,
    imagine,
    show,
    export,
    import_,
    audit,
    audit_edit,
    speed,
    summary,
    ui,
)
MODEL_COMMANDS = (list_models, show_model, check_model, print_path)

_EXAMPLES = (
    "invrecon reconstruct photo.jpg",
    "invrecon invert *.jpg --out seeds",
    "invrecon reconstruct seeds/photo.seed.safetensors",
    'invrecon edit photo.jpg --prompt "a red apple" --to "a green apple"',
    "invrecon verify seeds/photo.seed.safetensors photo.jpg",
)

# Plain text rather than rich's: it reads the same in a pipe, and examples stay on their lines.
app = typer.Typer(
    epilog=epilog(_EXAMPLES, CODES),
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 120},
)
_MODELS = "Model cards, where checkpoints lie, and whether they work here."
models = typer.Typer(
    help=_MODELS,
    rich_markup_mode=None,
    no_args_is_help=True,
)
for each in COMMANDS:
    each.add_to(app)
app.add_typer(models, name="models", short_help=_MODELS)
for each in MODEL_COMMANDS:
    each.add_to(models)


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        typer.echo(f"invrecon {version('invrecon')}")
    except PackageNotFoundError:
        typer.echo("invrecon, not installed")
    raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Find the seed noise from which a diffusion model gives a real photo back."""


def main() -> None:
    """Runs the program on the arguments of this process."""
    end_on_interrupt()
    if isinstance(sys.stdout, TextIOWrapper):
        # a file's name may hold what the terminal can't encode
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="invrecon")
    except OSError as error:  # from what Typer prints itself, such as help
        if os.environ.get("INVRECON_DEBUG") == "1":
            raise
        say(str(unprintable(error)))
        sys.exit(1)
