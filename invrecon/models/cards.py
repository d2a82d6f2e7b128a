"""Model cards: checkpoints by short names, with the settings that suit them. Read from cards.toml, without
torch."""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from invrecon.toml import tomllib


@dataclass(frozen=True)
class Card:
    """A checkpoint that can be named in one word.

    Args:
        title: for people.
        family: as in `invrecon.models.kinds`.
        prediction: what the network predicts: "epsilon", "v_prediction" or "flow".
        memory: what a run needs, or that it wasn't measured.
        hub: its hub id; "" for those that come with the package.
        seen: when the hub id was last seen in public to be there, "" where that isn't known; none was
            fetched for the card.
        note: what else a user should know.
        settings: of a run, by the names of `invrecon.settings.Settings`; defaults where the user doesn't say
            otherwise.
    """

    title: str
    family: str
    prediction: str
    memory: str
    hub: str = ""
    seen: str = ""
    note: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


@cache
def cards() -> dict[str, Card]:
    """All cards, by name."""
    text = (Path(__file__).parent / "cards.toml").read_text(encoding="utf-8")
    return {name: Card(**table) for name, table in tomllib.loads(text).items()}


def card_settings(name: str) -> dict[str, Any]:
    """The settings of a card; none where `name` isn't a card's."""
    return dict(cards()[name].settings) if name in cards() else {}
