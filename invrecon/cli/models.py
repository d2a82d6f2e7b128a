"""`invrecon models`: what is bundled, and where it lies."""

from typing import Annotated

import typer

LIST_EPILOG = "\b\nExample:\n  invrecon models list"
PATH_EPILOG = """\b
Examples:
  invrecon models path mini
  ls "$(invrecon models path mini)"

\b
Exit codes:
  0  the folder is printed
  2  there is no such model"""


def list_models() -> int:
    """Print the names of the bundled models."""
    from invrecon.models import bundled_models

    for name in bundled_models():
        typer.echo(name)
    return 0


def print_path(name: Annotated[str, typer.Argument(metavar="NAME", help="A bundled model's name.")]) -> int:
    """Print the folder of a bundled model."""
    from invrecon.models import model_folder

    typer.echo(model_folder(name))
    return 0
