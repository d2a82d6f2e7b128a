"""What a setting is: default, range and purpose, said once; checks, options, presets and docs follow."""

import math
import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from inspect import cleandoc, get_annotations
from numbers import Integral, Real
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from invrecon.errors import UsageError

T = TypeVar("T")

_ACCEPTED: dict[type, type] = {int: Integral, float: Real, bool: bool, str: str}  # numbers of numpy too


@dataclass(frozen=True)
class Setting:
    """One setting, as its field describes it.

    Args:
        name: the field's.
        default: None where there is none.
        kind: int, float, bool or str; None where only `words` will do, or where it isn't a single value.
        words: the words that are allowed, in place of a number or alone.
        optional: whether None will do.
        help: what it does and when to change it.
        section: the heading under which help and the page of settings list it: its group's title.
        common: whether help lists it among the options that come first.
        low, high: the least and the greatest number.
        multiple_of: a whole number that it has to be a multiple of.
        pattern: a regular expression; a text that matches it will do in the place of a number.
        pattern_shown: how help writes such a text.
        listed: whether it is any number of texts.
        flags: its option on the command line; empty where it has none.
        auto: the setting that the word "auto" in this one's place turns on.
        shown: the default as help shows it; empty for the default's own value.
        modes: of an edit, in which alone it counts; empty for all.
        unicode: whether it is text for a model, which can't read what isn't valid Unicode.
    """

    name: str
    default: Any
    kind: type | None
    words: tuple[str, ...]
    optional: bool
    help: str
    section: str = ""
    common: bool = False
    low: float = -math.inf
    high: float = math.inf
    multiple_of: int = 1
    pattern: str = ""
    pattern_shown: str = ""
    listed: bool = False
    flags: tuple[str, ...] = ()
    auto: str = ""
    shown: str = ""
    modes: tuple[str, ...] = ()
    unicode: bool = False

    def check(self, value: Any) -> None:
        """Raises UsageError where the setting can't have this value."""
        self.check_type(value)
        if value is None or isinstance(value, str):
            if self.kind is None and self.words and value not in self.words:
                raise UsageError(f"{self.name} must be one of {', '.join(self.words)}, not {value!r}")
            if self.unicode and not _is_unicode(value or ""):
                raise UsageError(
                    f"{self.name} isn't valid text: {value!a} holds bytes that aren't UTF-8; type it anew"
                )
        elif self.kind in (int, float):
            if not self.low <= value <= self.high:
                lie = f"be {self._or}lie" if self._or else "lie"
                raise UsageError(f"{self.name} must {lie} between {self.low} and {self.high}, not {value}")
            if self.multiple_of > 1 and value % self.multiple_of:
                near = round(value / self.multiple_of) * self.multiple_of
                raise UsageError(
                    f"{self.name} must be a multiple of {self.multiple_of}, not {value}; try {near}"
                )

    def check_type(self, value: Any) -> None:
        """Raises UsageError where a value is of another type than the setting's."""
        if self.listed:
            if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
                raise UsageError(f"{self.name} must be a list of texts, not {value!r:.60}")
            return
        expected = self.kind or (str if self.words else None)
        if expected is None or (value is None and self.optional) or value in self.words:
            return
        if self.pattern and isinstance(value, str) and re.fullmatch(self.pattern, value):
            return
        if not isinstance(value, _ACCEPTED[expected]) or (isinstance(value, bool) and expected is not bool):
            kinds = f"{self._or}of type {expected.__name__}"
            raise UsageError(f"{self.name} must be {kinds}, not {type(value).__name__}")

    @property
    def default_text(self) -> str:
        """The default as help shows it."""
        if self.default is None and not (self.shown or self.optional or self.kind is None):
            return "required"
        if self.shown or isinstance(self.default, bool):
            return self.shown or ("on" if self.default else "off")
        return {"": "empty", (): "none", math.inf: "none", None: "none"}.get(self.default, str(self.default))

    @property
    def _or(self) -> str:
        """What may stand in a number's place."""
        return "".join(f"{word} or " for word in self.words) if self.kind else ""


def setting(
    default: Any = MISSING, help: str = "", *, flags: tuple[str, ...] | None = None, **more: Any
) -> Any:
    """A dataclass's field, with what `Setting` says of it: `size: int = setting(256, "Side.", low=64)`.

    Its type is the annotation's; `float | Literal["auto"]` means a number or the word.

    Args:
        default: a value, or a function without arguments that makes it; required settings have none.
        help: what it does and when to change it, in one or two short sentences.
        flags: its option; None for the name after two hyphens, empty for none.
        more: further arguments of `Setting`.
    """
    metadata = {"setting": {"help": help, "flags": flags, **more}}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


class Group:
    """Settings, checked when they are made: a base of frozen dataclasses whose fields come from `setting`.

    A group's own `title` is the heading that its settings are listed under.
    """

    title = ""

    def __post_init__(self) -> None:
        for name, one in settings_of(type(self)).items():
            one.check(getattr(self, name))
            if one.listed:  # settings are keys of tables, which lists can't be
                object.__setattr__(self, name, tuple(getattr(self, name)))


def settings_of(group: Any) -> dict[str, Setting]:
    """The settings of a `Group` by name, its bases' first, in the order in which they are listed."""
    known = {each.name: each for each in fields(group)}
    classes = (*group.__mro__[1:], group)
    return {
        name: _read_field(known[name], one.title)
        for one in classes
        for name in get_annotations(one)
        if name in known
    }


def _read_field(each: Any, section: str) -> Setting:
    hint = each.type
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    words = tuple(word for part in parts if get_origin(part) is Literal for word in get_args(part))
    kind = next((part for part in parts if part in _ACCEPTED), None)
    listed = get_origin(hint) is tuple
    described = dict(each.metadata["setting"])
    if described["flags"] is None:
        flag = "--" + each.name.replace("_", "-")
        described["flags"] = (f"{flag}/--no-{each.name.replace('_', '-')}",) if kind is bool else (flag,)
    default = None if each.default is MISSING else each.default
    return Setting(
        each.name, default, kind, words, type(None) in parts, section=section, listed=listed, **described
    )


def _is_unicode(text: str) -> bool:
    """Whether text can be encoded: not so where Python kept bytes of a command line that it couldn't read."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def part(settings: Any, kind: Callable[..., T]) -> T:
    """The settings of a smaller group, taken from one that has them all."""
    return kind(**{name: getattr(settings, name) for name in settings_of(kind)})


def documented(group: type[T]) -> type[T]:
    """Adds what each setting does to the docstring of its group."""
    lines = [f"    {name}: {one.help}" for name, one in settings_of(group).items()]
    group.__doc__ = "\n".join([cleandoc(group.__doc__ or ""), "", "Args:", *lines])
    return group
