"""Settings of new pictures."""

from dataclasses import dataclass
from typing import Literal

from invrecon.settings.table import Group, documented, setting


@documented
@dataclass(frozen=True)
class Imagining(Group):
    """Which new seeds are made of the references'. `frames` and `path_kind` are for a path between two."""

    title = "New pictures"

    count: int = setting(
        8, "How many pictures to make.", low=1, high=999, flags=("--count", "-n"), common=True
    )
    spread: float = setting(
        0.3,
        "Distance from the references, in right angles: 0 gives their own mixtures only, 1 fresh noise. "
        "Raise it for more variety.",
        low=0,
        high=1,
    )
    refine: int = setting(
        0,
        "Gradients that draw each seed to the nearest reference, for more likeness. Slow: 40 evaluations "
        "each.",
        low=0,
        high=1000,
    )
    frames: int = setting(
        9, "With --path: how many pictures the way has, its ends among them.", low=2, high=999
    )
    path_kind: Literal["shell", "slerp", "linear"] = setting(
        "shell",
        "With --path: shell keeps to the Gaussian shell, slerp to the norms of the ends, linear to "
        "neither. Name one to compare them.",
    )
