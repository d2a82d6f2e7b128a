"""Settings of one edit: defaults, checks, and their way into a seed file's header and back."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from invrecon.errors import UsageError

MODES = ("p2p", "swap", "masactrl", "sdedit")
WORDS = ("replace", "refine")
INVERSIONS = ("lbo", "ddim")

OWN: dict[str, tuple[str, ...]] = {  # settings that count in one mode only
    "swap": (),
    "p2p": ("words", "weights", "cross_steps", "self_steps"),
    "masactrl": ("start_step", "start_layer"),
    "sdedit": ("strength",),
}


@dataclass(frozen=True)
class EditSettings:
    """What shapes an edit, apart from the seed, the photo's prompt and the mask.

    Args:
        to: what the picture should show.
        mode: how the target is tied to the source.
        guidance_scale: w >= 1 of the target branch.
        negative_prompt: what the target's guidance leads away from; None for the source's prompt where the seed has no guidance of
            its own, so that guidance acts on the difference of the prompts alone, else the seed's.
        words: p2p: whether words in the place of others take over their attention, or look for themselves.
        weights: p2p: attention to words of `to`, relative.
        cross_steps, self_steps: p2p: for which part of the steps attention is the source's.
        start_step, start_layer: masactrl: from which part of the steps and layers on the looks are the source's.
        strength: sdedit: the part of the steps that is done anew.
        auto_mask: whether only places that attend to the changed words are edited.
        forget: the share of the seed's mean, inside the mask, that the target starts without; see `core.editing.locality.forget`. It
            counts where there is a mask and the prompts differ, and not in sdedit, which doesn't start from the seed.
        mask_threshold: of that attention, scaled to run from 0 to 1; None for the one that parts it best.
    """

    to: str
    mode: Literal["p2p", "swap", "masactrl", "sdedit"] = "p2p"
    guidance_scale: float = 3.0
    negative_prompt: str | None = None
    words: Literal["replace", "refine"] = "replace"
    weights: Mapping[str, float] = field(default_factory=dict)
    cross_steps: float = 0.8
    self_steps: float = 0.8
    start_step: float = 0.1
    start_layer: float = 0.6
    strength: float = 0.8
    auto_mask: bool = False
    forget: float = 1.0
    mask_threshold: float | None = None

    def __post_init__(self) -> None:
        for name, allowed in (("mode", MODES), ("words", WORDS)):
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        for name in (
            "cross_steps",
            "self_steps",
            "start_step",
            "start_layer",
            "strength",
            "forget",
            "mask_threshold",
        ):
            if not 0 <= (getattr(self, name) or 0) <= 1:
                raise UsageError(f"{name} must lie between 0 and 1, not {getattr(self, name)}")
        if not 1 <= self.guidance_scale <= 100:
            raise UsageError(f"guidance_scale must lie between 1 and 100, not {self.guidance_scale}")
        if self.weights and self.mode != "p2p":
            raise UsageError(f"words are weighed in mode p2p only, not in {self.mode}")
        for word, weight in self.weights.items():
            if not -100 <= weight <= 100:
                raise UsageError(f"the weight of {word!r} must lie between -100 and 100, not {weight}")

    def header(self) -> dict[str, Any]:
        """As a seed file's header holds it."""
        return asdict(self)

    def label(self, always: Collection[str] = ()) -> str:
        """Mode, guidance, what isn't at its default and the settings named in `always`, on one line."""
        plain = EditSettings(self.to)
        names = [name for name in (*OWN[self.mode], "forget", "mask_threshold") if name != "weights"]
        shown = [name for name in names if name in always or getattr(self, name) != getattr(plain, name)]
        own = [f"{name.replace('_', ' ')} {getattr(self, name)}" for name in shown]
        weights = [f"{word} x{weight:g}" for word, weight in self.weights.items()]
        return ", ".join(
            [
                self.mode,
                f"guidance {self.guidance_scale:g}",
                *own,
                *weights,
                *(["auto mask"] if self.auto_mask else []),
            ]
        )


def read_edit(values: Any) -> EditSettings:
    """The edit that a seed file's header holds.

    Raises:
        UsageError: it is damaged.
    """
    known = {each.name: each for each in fields(EditSettings)}
    if not isinstance(values, dict) or not isinstance(values.get("to"), str) or set(values) - set(known):
        raise UsageError("damaged edit in the header")
    numbers = [name for name, each in known.items() if "float" in str(each.type) and name != "weights"]
    sound = all(
        isinstance(values.get(name, 0.0), (int, float)) or (name, values[name]) == ("mask_threshold", None)
        for name in numbers
    )
    weights = values.get("weights", {})
    sound = (
        sound
        and isinstance(weights, dict)
        and all(isinstance(weight, (int, float)) for weight in weights.values())
    )
    sound = (
        sound
        and isinstance(values.get("negative_prompt"), (str, type(None)))
        and isinstance(values.get("auto_mask", False), bool)
    )
    if not sound:
        raise UsageError("damaged edit in the header")
    return EditSettings(**values)
