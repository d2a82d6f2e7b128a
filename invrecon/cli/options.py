"""Options: those that several commands share, and those that follow from the table of settings."""

import re
from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from invrecon.settings import Setting

# headings of help
FIRST, PHOTOS, OUTPUT, OTHER = "Options", "Which photos, and their prompts", "Output", "Other"

MinPsnr = Annotated[
    float | None,
    typer.Option(
        "--min-psnr",
        metavar="DB",
        help="Exit with 3 where a photo's result falls short of this PSNR. For scripts.",
        rich_help_panel=OUTPUT,
    ),
]
Inputs = Annotated[
    list[Path], typer.Argument(metavar="INPUT", help="Photos in any common format, or seed files.")
]
Named = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT",
        help="Photos in any common format, seed files, folders, addresses, or tars of photos.",
    ),
]
Photos = Annotated[
    list[Path] | None,
    typer.Option(
        "--photo",
        metavar="PHOTO",
        help="Photo that a seed file was made from; one for each seed file, in their order.",
        rich_help_panel=PHOTOS,
    ),
]
Metadata = Annotated[
    bool,
    typer.Option(
        "--metadata/--no-metadata",
        help="Note in PNGs that they are generated, with model, prompt (which can hold names) and settings.",
        rich_help_panel=OUTPUT,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="No progress bars and no table.", rich_help_panel=OUTPUT),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE.toml",
        help="Preset of settings, to use them again; options given here override it.",
        rich_help_panel=OTHER,
    ),
]


def option(setting: Setting) -> Any:
    """The option of a setting, as an annotation; None where it isn't given, so that presets count."""
    words = [*setting.words, *(["auto"] if setting.auto else [])]
    kind: Any = setting.kind or str
    more: dict[str, Any] = {}
    if kind is not bool:
        named = [kind.__name__.upper()] if setting.kind and not (words and kind is str) else []
        more["metavar"] = "|".join([*named, *words])
    if setting.pattern:
        more["metavar"] += f"|{setting.pattern_shown}"
    if setting.listed:
        more["metavar"], kind = setting.pattern_shown, list[str]
    if setting.kind and (words or setting.pattern):
        more["parser"] = _or_text(setting, words)
    more["help"] = f"{setting.help} [default: {setting.default_text}]"
    more["rich_help_panel"] = FIRST if setting.common else setting.section
    return Annotated[kind | None, typer.Option(*setting.flags, **more)]


def under(title: str, options: dict[str, tuple[Any, Any]]) -> dict[str, tuple[Any, Any]]:
    """Options, annotations and defaults, listed under a heading where they don't name another."""
    return {name: (_under(title, kind), default) for name, (kind, default) in options.items()}


def _under(title: str, kind: Any) -> Any:
    bare, told = get_args(kind)[:2]
    told = copy(told)
    told.rich_help_panel = told.rich_help_panel or title
    return Annotated[bare, told]


def _or_text(setting: Setting, words: Sequence[str]) -> Callable[[str], Any]:
    """A parser of numbers of the setting's kind, of some words, and of texts that match its pattern."""
    kind = setting.kind or str

    def parse(text: str) -> Any:
        if text in words or (setting.pattern and re.fullmatch(setting.pattern, text)):
            return text
        try:
            return kind(text)
        except ValueError as error:
            number = "a whole number" if kind is int else "a number"
            others = [*words, *([setting.pattern_shown] if setting.pattern else [])]
            raise typer.BadParameter(f"must be {number} or {' or '.join(others)}, not {text!r}") from error

    return parse
