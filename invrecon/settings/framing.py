"""How the model sees a photo."""

import re
from dataclasses import dataclass
from typing import Literal

from invrecon.errors import UsageError
from invrecon.settings.table import Group, documented, setting

MIN_SIDE, MAX_SIDE = 64, 2048


@documented
@dataclass(frozen=True)
class Framing(Group):
    """The canvas that a photo is laid on, and how. The default shows the whole photo at its own aspect ratio.

    Where a photo's shape would need more than 3 % of stretch, "whole" pads it.
    """

    title = "How the model sees it"

    size: int | str = setting(
        256,
        "The model sees about SIZE x SIZE pixels, or exactly WIDTHxHEIGHT. Best is what it was trained on; "
        "less is quicker and loses detail.",
        low=MIN_SIDE,
        high=MAX_SIDE,
        multiple_of=8,
        pattern=r"\d+x\d+",
        pattern_shown="WIDTHxHEIGHT",
        common=True,
    )
    fit: Literal["whole", "crop", "pad", "stretch"] = setting(
        "whole",
        "How a photo is laid on that: whole shows all of it in its own shape, crop its middle, pad all of "
        "it with a border, stretch all of it distorted. All but whole give every photo the same shape.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for side in self.exact_size or ():
            if not MIN_SIDE <= side <= MAX_SIDE or side % 8:
                raise UsageError(
                    f"size must have sides that are multiples of 8 from {MIN_SIDE} to {MAX_SIDE}, "
                    f"not {self.size}"
                )

    @property
    def exact_size(self) -> tuple[int, int] | None:
        """(width, height) where `size` says both, pixels."""
        match = re.fullmatch(r"(\d+)x(\d+)", str(self.size))
        return (int(match[1]), int(match[2])) if match else None
