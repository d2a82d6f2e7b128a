"""What makes a command of a function: its options, its examples and its exit codes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, cleandoc, signature
from typing import Annotated, Any, get_args, get_origin

import typer
from typer.core import TyperArgument, TyperCommand
from typer.models import OptionInfo

from invrecon.cli import options
from invrecon.cli.boundary import guarded
from invrecon.cli.options import Config, option, under
from invrecon.models.cards import card_settings
from invrecon.settings import Settings, load_settings, settings_of
from invrecon.settings.table import Group

CODES = {
    0: "all inputs are done",
    1: "an input failed (the others are still done), or invrecon itself did",
    2: "wrong usage: a bad option, preset, output folder or model",
    3: "a result fell short of --min-psnr",
    130: "interrupted; every file there is complete",
}
BATCH_CODES = dict(
    sorted((CODES | {4: "workers died, or there is no cluster; the same command does the rest"}).items())
)


@dataclass(frozen=True)
class Command:
    """A command under its name, with what its help ends with."""

    name: str
    epilog: str
    run: Callable[..., None]

    def add_to(self, app: typer.Typer) -> None:
        """Makes it a command of the program."""
        whole = " ".join(cleandoc(self.run.__doc__ or "").partition("\n\n")[0].split())
        app.command(self.name, short_help=whole, epilog=self.epilog, cls=_Grouped)(self.run)


class _Grouped(TyperCommand):
    """A command whose help lists options under their headings, in plain text."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes arguments and options."""
        listed: dict[str, list[tuple[str, str]]] = {"Arguments": [], options.FIRST: []}
        for each in self.get_params(ctx):
            default = "Arguments" if isinstance(each, TyperArgument) else options.OTHER
            if record := each.get_help_record(ctx):
                name = record[0].partition(" <")[0]  # without Python's name of its type
                title = getattr(each, "rich_help_panel", None) or default
                listed.setdefault(title, []).append((name, record[1]))
        for title in (options.OUTPUT, options.OTHER):
            listed |= {title: listed.pop(title, [])}
        for title, records in listed.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def command(
    *,
    examples: Sequence[str],
    name: str = "",
    codes: Mapping[int, str] = CODES,
    only: Sequence[str] = (),
    without: Sequence[str] = (),
) -> Callable[[Callable[..., int]], Command]:
    """Makes a command of a function that returns its exit code; its docstring is the help.

    Each parameter is an argument or option as Typer takes it, but for four kinds, which options stand for:
    - `Settings`: --config and the settings' options; what a user doesn't give is left to the preset.
      An argument called `model` counts as that setting.
    - another `Group` of settings; `Annotated[dict, Group]` for those alone that the user gives.
    - another dataclass, for those of its fields that are annotated with an option. Help lists them under its
      `title`, if it has one.
    - `config`: the preset's path.

    Args:
        examples: command lines, whole.
        name: the function's where it is empty.
        codes: exit codes and what they mean.
        only: the settings that have options; all where it is empty.
        without: settings that have none.
    """

    def decorate(function: Callable[..., int]) -> Command:
        title = name or function.__name__.replace("_", "-")
        return Command(title, epilog(examples, codes), guarded(_expand(function, only, without)))

    return decorate


def epilog(examples: Sequence[str], codes: Mapping[int, str]) -> str:
    """Examples and exit codes as the end of a help text."""
    title = "Examples:" if len(examples) > 1 else "Example:"
    parts = ["\n".join(["\b", title, *(f"  {example}" for example in examples)])]
    if codes:
        parts.append(
            "\n".join(["\b", "Exit codes:", *(f"  {code:<3}  {text}" for code, text in codes.items())])
        )
    return "\n\n".join(parts)


@dataclass(frozen=True)
class _Bundle:
    """Options that become one argument: their annotations and defaults, and what is made of their values."""

    options: dict[str, tuple[Any, Any]]
    make: Callable[[dict[str, Any]], Any]


def _expand(function: Callable[..., int], only: Sequence[str], without: Sequence[str]) -> Callable[..., int]:
    """`function` with the options of its bundles in their place."""
    own = signature(function).parameters
    bundles = {name: _bundle(one, only, without) for name, one in own.items()}

    @wraps(function)
    def run(**given: Any) -> int:
        return function(**{name: bundle.make(given) for name, bundle in bundles.items()})

    expanded = {name: each for bundle in bundles.values() for name, each in bundle.options.items()}
    parameters = [
        Parameter(name, Parameter.KEYWORD_ONLY, annotation=kind, default=default)
        for name, (kind, default) in expanded.items()
    ]
    run.__signature__ = Signature(parameters, return_annotation=int)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def _bundle(parameter: Parameter, only: Sequence[str], without: Sequence[str]) -> _Bundle:
    name, kind = parameter.name, parameter.annotation
    if kind is Settings:
        return _settings(only, without)
    if isinstance(kind, type) and issubclass(kind, Group):
        own = _options(kind)
        return _Bundle(own, lambda given: kind(**_told(given, own)))
    if isinstance(kind, type) and is_dataclass(kind):
        return _dataclass(kind)
    if get_origin(kind) is Annotated and isinstance(get_args(kind)[1], type):
        changed = _options(get_args(kind)[1])
        return _Bundle(changed, lambda given: _told(given, changed))
    if name == "config":
        return _Bundle({"config": (Config, None)}, lambda given: given["config"])
    own = {name: (kind, parameter.default)}
    is_option = isinstance(get_args(kind)[1], OptionInfo)
    return _Bundle(under(options.FIRST, own) if is_option else own, lambda given: given[name])


def _settings(only: Sequence[str], without: Sequence[str]) -> _Bundle:
    chosen = {
        name: one
        for name, one in _options(Settings).items()
        if (not only or name in only) and name not in without
    }

    def make(given: dict[str, Any]) -> Settings:
        return load_settings(given["config"], card_settings, **_told(given, (*chosen, "model")))

    return _Bundle({"config": (Config, None)} | chosen, make)


def _dataclass(kind: Any) -> _Bundle:
    own = {
        each.name: (each.type, each.default) for each in fields(kind) if get_origin(each.type) is Annotated
    }
    title = getattr(kind, "title", options.FIRST)
    return _Bundle(under(title, own), lambda given: kind(**{name: given[name] for name in own}))


def _options(group: Any) -> dict[str, tuple[Any, Any]]:
    return {name: (option(one), None) for name, one in settings_of(group).items() if one.flags}


def _told(given: dict[str, Any], names: Any) -> dict[str, Any]:
    """What the user gave of some options."""
    return {name: given[name] for name in names if given.get(name) not in (None, [])}
