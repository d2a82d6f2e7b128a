"""How much work an inversion may be."""

import math
from dataclasses import dataclass
from typing import Literal

from invrecon.settings.table import Group, documented, setting


@documented
@dataclass(frozen=True)
class Effort(Group):
    """How each step's latent bias is found, and how exactly. The defaults suit most photos.

    A step ends when it is within its share of `rtol`, or after `max_evaluations` iterations. With
    `mean_evaluations` the budget counts instead: it is spent down to rounding, whatever `rtol` says.
    """

    title = "Quality and time: inversion"

    solver: Literal["auto", "anderson", "picard", "adam"] = setting(
        "auto",
        "How each step's latent bias is found; auto takes what converges fastest. Name one to compare them.",
    )
    rtol: float = setting(
        1.8e-3,
        "Relative error of the latents that all steps together may add up to. Less is more exact and takes "
        "longer.",
        low=1e-12,
        high=1,
    )
    max_evaluations: int = setting(
        60,
        "Iterations that a step may take. Raise it where a run warns of steps that didn't converge.",
        low=1,
        high=10_000,
    )
    mean_evaluations: float = setting(
        math.inf,
        "Spend so many network evaluations a step, on average, whatever --rtol says. Give it where time is "
        "fixed; 1 is the quickest.",
        low=1,
    )
