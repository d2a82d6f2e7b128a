"""What an audit runs: settings, methods and budgets, all combined."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from invrecon.core.peers import PEERS, make_peer
from invrecon.errors import UsageError

OURS = "LBO"
METHODS = (OURS, *PEERS)


@dataclass(frozen=True)
class Setting:
    """A prompt and a guidance scale; `captioned` asks for the photo's caption in place of the empty
    prompt.
    """

    captioned: bool
    guidance_scale: float

    @property
    def name(self) -> str:
        return f"{'caption' if self.captioned else 'empty prompt'}, w = {self.guidance_scale:g}"


@dataclass(frozen=True)
class Run:
    """A method under a setting and a budget, on the encoder's latents or on boosted ones.

    Args:
        budget: network evaluations a step, a backward pass counted as two; None for the published settings.
    """

    setting: Setting
    method: str
    budget: int | None
    boosted: bool

    @property
    def track(self) -> str:
        return "A" if self.method == OURS else make_peer(self.method).track


@dataclass(frozen=True)
class Plan:
    """All combinations of methods, budgets and settings.

    Boosted latents are for track A at the published settings, so only where `budgets` has None.

    Args:
        captions: by a photo's path or its name without ending; the path comes first.
    """

    methods: tuple[str, ...] = METHODS
    budgets: tuple[int | None, ...] = (None, 1, 2, 3, 5, 10)
    settings: tuple[Setting, ...] = (
        Setting(False, 1.0),
        Setting(True, 1.0),
        Setting(True, 3.0),
        Setting(True, 7.5),
    )
    captions: dict[str, str] = field(default_factory=dict)
    decoder_ceiling: bool = True

    def __post_init__(self) -> None:
        if unknown := set(self.methods) - set(METHODS):
            raise UsageError(f"no method {', '.join(sorted(unknown))}: there are {', '.join(METHODS)}")

    def runs(self) -> Iterator[Run]:
        """All runs on one photo, each setting's in one piece."""
        for setting in self.settings:
            for method in self.methods:
                for budget in self.budgets:
                    yield Run(setting, method, budget, boosted=False)
            for method in self.methods:
                run = Run(setting, method, None, boosted=True)
                if None in self.budgets and run.track == "A":
                    yield run

    def caption(self, photo: Path, setting: Setting) -> str:
        """The prompt for a photo under a setting; a photo without a caption is called "a photo"."""
        if not setting.captioned:
            return ""
        return self.captions.get(str(photo), self.captions.get(photo.stem, "a photo"))


def parse_setting(text: str) -> Setting:
    """'empty:1' or 'caption:7.5' -> a setting.

    Raises:
        UsageError: it is neither.
    """
    kind, _, scale = text.partition(":")
    try:
        guidance_scale = float(scale or 1)
    except ValueError:
        guidance_scale = 0.0
    if kind not in ("empty", "caption") or not 1 <= guidance_scale <= 100:
        raise UsageError(f"a setting reads empty:1 or caption:7.5, not {text!r}")
    return Setting(kind == "caption", guidance_scale)


def describe(method: str) -> dict[str, str]:
    """Track and note of a method."""
    peer = None if method == OURS else make_peer(method)
    return {"track": peer.track if peer else "A", "note": peer.note if peer else ""}
