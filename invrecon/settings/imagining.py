"""Settings of new pictures."""

from dataclasses import dataclass
from typing import Literal

from invrecon.settings.table import Group, documented, setting


@documented
@dataclass(frozen=True)
class Imagining(Group):
    """Which new seeds are made of the references'. `frames` and `path_kind` are for a path between two."""

    count: int = setting(8, "How many pictures.", low=1, high=999, flags=("--count", "-n"))
    spread: float = setting(
        0.3,
        "Distance from the references, in right angles: 0 only their own mixtures, 1 fresh noise.",
        low=0,
        high=1,
    )
    refine: int = setting(
        0,
        "Gradients that draw each seed to the nearest reference; slow, 40 evaluations each.",
        low=0,
        high=1000,
    )
    frames: int = setting(9, "How many pictures the way has, its ends among them.", low=2, high=999)
    path_kind: Literal["shell", "slerp", "linear"] = setting(
        "shell", "shell keeps to the Gaussian shell, slerp to the norms of the ends, linear to neither."
    )
