"""The options that commands share, and the settings that follow from them."""

import math
from collections.abc import Callable, Sequence
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from invrecon.models.cards import card_settings
from invrecon.settings import Setting, Settings, load_settings, settings_of


def option(setting: Setting) -> Any:
    """The option of a setting, as an annotation; None where it isn't given, so that presets count."""
    words = [*setting.words, *(["auto"] if setting.auto else [])]
    kind = setting.kind or str
    more: dict[str, Any] = {}
    if kind is not bool:
        more["metavar"] = "|".join([kind.__name__.upper(), *words] if setting.kind else words)
    if setting.kind and words:
        more["parser"] = _or_words(kind, words)
    help = f"{setting.help} [default: {setting.shown or _show(setting.default)}]"
    return Annotated[kind | None, typer.Option(*setting.flags, help=help, **more)]


def _show(default: Any) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    return {"": "empty", math.inf: "none"}.get(default, str(default))


def _or_words(kind: type, words: Sequence[str]) -> Callable[[str], Any]:
    """A parser of numbers of that kind, and of some words."""

    def parse(text: str) -> Any:
        try:
            return text if text in words else kind(text)
        except ValueError as error:
            number = "a whole number" if kind is int else "a number"
            raise typer.BadParameter(f"must be {number} or {' or '.join(words)}, not {text!r}") from error

    return parse


Out = Annotated[
    Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the results, made as needed.")
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite results that exist.")]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume", help="Take over what an earlier run with --resume finished with the same settings."
    ),
]
MinPsnr = Annotated[
    float | None,
    typer.Option(
        "--min-psnr", metavar="DB", help="Exit with 3 where a photo's result falls short of this PSNR."
    ),
]
Photos = Annotated[
    list[Path] | None,
    typer.Option(
        "--photo", metavar="PHOTO", help="What a seed file was made from; one for each, in their order."
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object a line for each input, and nothing else.")
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress bars and no table; warnings and errors stay.")
]
Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE.toml", help="Preset; options given here override it.")
]

GUIDANCE_SEARCH = ("guidance_loss", "max_guidance")


def takes_settings(
    *chosen: str, without: tuple[str, ...] = ()
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Gives a command --config and an option for each chosen setting: for all but those of `without` where none is chosen.

    A command without --model whose parameter `name` is a model's takes its card from there.
    The command itself has one parameter `settings`, of keyword kind, in their place, and
    may have one `config`, the preset's path.
    What a user doesn't give is left to the preset.
    """
    table = {name: one for name, one in settings_of(Settings).items() if one.flags}
    names = [name for name in chosen or table if name not in without]

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        @wraps(command)
        def run(config: Path | None = None, **given: Any) -> int:
            overrides = {name: given.pop(name) for name in names}
            if "model" not in names and "name" in given:
                overrides["model"] = given["name"]
            preset = {"config": config} if "config" in known else {}
            return command(settings=load_settings(config, card_settings, **overrides), **preset, **given)

        known = signature(command).parameters
        own = [parameter for parameter in known.values() if parameter.name not in ("settings", "config")]
        added = {"config": Config} | {name: option(table[name]) for name in names}
        options = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=kind)
            for name, kind in added.items()
        ]
        parameters = [*(one.replace(kind=Parameter.KEYWORD_ONLY) for one in own), *options]
        run.__signature__ = Signature(parameters, return_annotation=int)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate
