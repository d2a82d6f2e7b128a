"""The program `invrecon`: its commands, none of which imports torch before it works."""

import sys
from importlib.metadata import PackageNotFoundError, version
from io import TextIOWrapper
from typing import Annotated

import typer

from invrecon.cli.audit import EPILOG as AUDIT_EPILOG
from invrecon.cli.audit import audit
from invrecon.cli.audit_edit import EPILOG as AUDIT_EDIT_EPILOG
from invrecon.cli.audit_edit import audit_edit
from invrecon.cli.boost import EPILOG as BOOST_EPILOG
from invrecon.cli.boost import boost
from invrecon.cli.boundary import EXIT_CODES, guarded
from invrecon.cli.edit import EPILOG as EDIT_EPILOG
from invrecon.cli.edit import edit
from invrecon.cli.imagine import EPILOG as IMAGINE_EPILOG
from invrecon.cli.imagine import imagine
from invrecon.cli.invert import EPILOG as INVERT_EPILOG
from invrecon.cli.invert import invert
from invrecon.cli.models import (
    CHECK_EPILOG,
    LIST_EPILOG,
    PATH_EPILOG,
    SHOW_EPILOG,
    check_model,
    list_models,
    print_path,
    show_model,
)
from invrecon.cli.reconstruct import EPILOG as RECONSTRUCT_EPILOG
from invrecon.cli.reconstruct import reconstruct
from invrecon.cli.speed import EPILOG as SPEED_EPILOG
from invrecon.cli.speed import speed
from invrecon.cli.verify import EPILOG as VERIFY_EPILOG
from invrecon.cli.verify import verify

_EPILOG = f"""\b
Examples:
  invrecon reconstruct photo.jpg
  invrecon invert *.jpg --out seeds
  invrecon reconstruct seeds/photo.seed.safetensors
  invrecon edit photo.jpg --prompt "a red apple" --to "a green apple"
  invrecon verify seeds/photo.seed.safetensors photo.jpg

{EXIT_CODES}"""

# Plain text rather than rich's: it reads the same in a pipe, and examples stay on their lines.
app = typer.Typer(
    epilog=_EPILOG,
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
models = typer.Typer(
    help="Model cards, where checkpoints lie, and whether they work here.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

app.command(epilog=INVERT_EPILOG)(guarded(invert))
app.command(epilog=RECONSTRUCT_EPILOG)(guarded(reconstruct))
app.command(epilog=BOOST_EPILOG)(guarded(boost))
app.command(epilog=EDIT_EPILOG)(guarded(edit))
app.command(epilog=VERIFY_EPILOG)(guarded(verify))
app.command(epilog=IMAGINE_EPILOG)(guarded(imagine))
app.command(epilog=AUDIT_EPILOG)(guarded(audit))
app.command(epilog=AUDIT_EDIT_EPILOG)(guarded(audit_edit))
app.command(epilog=SPEED_EPILOG)(guarded(speed))
app.add_typer(models, name="models")
models.command("list", epilog=LIST_EPILOG)(guarded(list_models))
models.command("show", epilog=SHOW_EPILOG)(guarded(show_model))
models.command("check", epilog=CHECK_EPILOG)(guarded(check_model))
models.command("path", epilog=PATH_EPILOG)(guarded(print_path))


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
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(
            errors="backslashreplace"
        )  # a file's name may hold what the terminal can't encode
    app(prog_name="invrecon")
