"""Settings of one edit, and their way into a seed file's header and back."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any, Literal

from invrecon.errors import UsageError
from invrecon.settings.table import Group, documented, setting, settings_of

GUIDANCE = 2.0  # of an edit of a photo that has none
INVERSIONS = ("lbo", "ddim")  # how the seed of a photo that is edited is found


@documented
@dataclass(frozen=True)
class EditSettings(Group):
    """What shapes an edit, apart from the seed, the photo's prompt and the mask.

    Some settings count in one mode only; their texts begin with its name.
    """

    title = "The edit"

    to: str = setting(help="What the picture should show.", flags=(), unicode=True)
    mode: Literal["p2p", "swap", "masactrl", "sdedit", "inject", "flowedit"] = setting(
        "p2p",
        "How the edit is tied to the photo: p2p by its words' places, swap by its seed alone, masactrl by "
        "its looks, sdedit by the first part of its way, inject by its values in attention, flowedit by the "
        "difference of two velocities, without a seed. Try another where too much or too little changes.",
    )
    guidance_scale: float | None = setting(
        None,
        f"Guidance of the edit; else the photo's own, or {GUIDANCE:g} where it has none and the network "
        "isn't told one. Raise it where the edit is too weak; lower it where colours overshoot.",
        low=0,
        high=100,
        common=True,
        shown=f"{GUIDANCE:g}",
    )
    negative_prompt: str | None = setting(
        None,
        "What guidance leads away from; else the photo's prompt, or a guided seed's own negative prompt.",
        shown="--prompt",
        unicode=True,
    )
    auto_mask: bool = setting(
        False, "Change only what the changed words name. Take it where the rest of the photo changes."
    )
    mask_threshold: float | None = setting(
        None,
        "Attention, from 0 to 1, above which --auto-mask takes a place to be named. Lower it for a larger "
        "mask.",
        low=0,
        high=1,
        shown="automatic",
    )
    keep_original: bool = setting(
        False,
        "Keep the photo's own pixels where the mask is black. Take it where not one of them may change.",
    )
    forget: float = setting(
        1.0,
        "Share of its mean colour that the seed gives up inside a mask, for what the edit leads to; without "
        "effect in sdedit. Lower it to keep the colour.",
        low=0,
        high=1,
    )
    words: Literal["replace", "refine"] = setting(
        "replace", "p2p: new words take the old ones' places, or look for themselves.", modes=("p2p",)
    )
    weights: Mapping[str, float] = setting(dict, "p2p: attention to words of --to.", flags=(), modes=("p2p",))
    cross_steps: float = setting(
        0.8,
        "p2p: part of the steps with the photo's attention to words. Lower it for a larger change.",
        low=0,
        high=1,
        modes=("p2p",),
    )
    self_steps: float = setting(
        0.8,
        "p2p: part of the steps with the photo's layout. Lower it for a larger change.",
        low=0,
        high=1,
        modes=("p2p",),
    )
    start_step: float = setting(
        0.1,
        "masactrl: part of the steps before it begins. Raise it for a larger change.",
        low=0,
        high=1,
        modes=("masactrl",),
    )
    start_layer: float = setting(
        0.6,
        "masactrl: part of the layers before it begins. Raise it for a larger change.",
        low=0,
        high=1,
        modes=("masactrl",),
    )
    strength: float = setting(
        0.8,
        "sdedit, flowedit: part of the steps that is done anew. Raise it for a larger change.",
        low=0,
        high=1,
        modes=("sdedit", "flowedit"),
    )
    from_step: float = setting(
        0.0, "inject: part of the steps before it begins.", low=0, high=1, modes=("inject",)
    )
    to_step: float = setting(
        0.25, "inject: part of the steps after which it ends.", low=0, high=1, modes=("inject",)
    )
    from_layer: float = setting(
        0.0, "inject: part of the layers before it begins.", low=0, high=1, modes=("inject",)
    )
    to_layer: float = setting(
        1.0, "inject: part of the layers after which it ends.", low=0, high=1, modes=("inject",)
    )
    keys: bool = setting(False, "inject: keys too, not values alone.", modes=("inject",))

    n_avg: int = setting(
        1, "flowedit: noises over which each step takes a mean.", low=1, high=1000, modes=("flowedit",)
    )
    noise_seed: int = setting(
        0, "flowedit: of the noise that it draws.", low=0, high=2**63 - 1, modes=("flowedit",)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for part in ("step", "layer"):
            begin, end = getattr(self, f"from_{part}"), getattr(self, f"to_{part}")
            if begin > end:
                raise UsageError(f"from_{part} must be at most to_{part}, not {begin} and {end}")
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
        table = settings_of(EditSettings)
        own = [name for name, one in table.items() if self.mode in one.modes and name != "weights"]
        shown = [
            f"{name.replace('_', ' ')} {getattr(self, name)}"
            for name in (*own, "forget", "mask_threshold")
            if name in always or getattr(self, name) != table[name].default
        ]
        weights = [f"{word} x{weight:g}" for word, weight in self.weights.items()]
        masked = ["auto mask"] if self.auto_mask else []
        scale = GUIDANCE if self.guidance_scale is None else self.guidance_scale
        return ", ".join([self.mode, f"guidance {scale:g}", *shown, *weights, *masked])


MODES: tuple[Any, ...] = settings_of(EditSettings)["mode"].words


def read_edit(values: Any) -> EditSettings:
    """The edit that a seed file's header holds.

    Raises:
        UsageError: it is damaged.
    """
    table = settings_of(EditSettings)
    if not isinstance(values, dict) or "to" not in values or set(values) - set(table):
        raise UsageError("damaged edit in the header")
    weights = values.get("weights", {})
    if not isinstance(weights, dict) or not all(isinstance(weight, Real) for weight in weights.values()):
        raise UsageError("damaged edit in the header")
    try:
        for name, value in values.items():
            table[name].check_type(value)
    except UsageError as error:
        raise UsageError("damaged edit in the header") from error
    return EditSettings(**values)
