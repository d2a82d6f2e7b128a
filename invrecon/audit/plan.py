"""What an audit runs: photos, settings, methods and budgets, and the rows that come of them."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from invrecon.core.peers import PEERS, make_peer
from invrecon.errors import UsageError

OURS = "LBO"
METHODS = (OURS, *PEERS)


@dataclass(frozen=True)
class Setting:
    """A prompt and a guidance scale; `captioned` asks for the photo's caption in place of the empty prompt."""

    captioned: bool
    guidance_scale: float

    @property
    def name(self) -> str:
        return f"{'caption' if self.captioned else 'empty prompt'}, w = {self.guidance_scale:g}"


@dataclass(frozen=True)
class Job:
    """One run: a method under a setting and a budget, on the encoder's latents or on boosted ones."""

    setting: Setting
    method: str
    budget: int | None
    boosted: bool

    @property
    def track(self) -> str:
        return "A" if self.method == OURS else make_peer(self.method).track


@dataclass(frozen=True)
class Plan:
    """The whole matrix. Boosted latents are for track A, and for the published settings only, where `budgets` has None."""

    methods: tuple[str, ...] = METHODS
    budgets: tuple[int | None, ...] = (None, 2, 3, 5, 10)
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

    def jobs(self) -> Iterator[Job]:
        """All runs on one photo, each setting's in one piece."""
        for setting in self.settings:
            for method in self.methods:
                for budget in self.budgets:
                    yield Job(setting, method, budget, boosted=False)
            for method in self.methods:
                job = Job(setting, method, None, boosted=True)
                if None in self.budgets and job.track == "A":
                    yield job

    def caption(self, photo: Path, setting: Setting) -> str:
        """The prompt for a photo under a setting; photos without a caption of their own are called "a photo"."""
        return self.captions.get(photo.stem, "a photo") if setting.captioned else ""


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


def key(*parts: object) -> str:
    """A short name for files, from whatever tells one thing from another."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()[:16]
