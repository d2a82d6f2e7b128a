"""All settings of a run."""

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import Literal

from invrecon.errors import UsageError
from invrecon.settings.auto_guidance import AutoGuidance
from invrecon.settings.boosting import Boosting
from invrecon.settings.checkpoint import Checkpoint
from invrecon.settings.effort import Effort
from invrecon.settings.framing import Framing
from invrecon.settings.grades import graded
from invrecon.settings.hardware import Hardware
from invrecon.settings.recipe import Recipe, Sampling
from invrecon.settings.table import documented, part, setting


@documented
@graded
@dataclass(frozen=True)
class Settings(Sampling, Framing, Effort, Boosting, AutoGuidance, Checkpoint, Hardware):
    """What shapes a result: `Settings(prompt="a cat", num_inference_steps=20)`.

    What isn't given follows from `effort`; to change the effort later, make them anew.

    Raises:
        UsageError: a setting is out of its range, or contradicts another.
    """

    title = "Other"

    effort: Literal["quick", "standard", "best"] = setting(
        "standard",
        "Sets steps, decoder passes and tolerances together: quick for a first look, best where each dB "
        "counts. Those that are given too win over it.",
        common=True,
    )
    seed: int = setting(
        0,
        "Seed of the random generators. Another one makes other new pictures; inversion draws nothing at "
        "random.",
        low=0,
        high=2**63 - 1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.auto_guidance and self.prompt == self.negative_prompt:
            raise UsageError(
                "guidance does nothing where prompt and negative prompt are alike: "
                "say what the photo shows with --prompt"
            )

    def recipe(self, width: int, height: int) -> Recipe:
        """How a picture of that size is made of its seed, pixels."""
        return Recipe(**vars(part(self, Sampling)), width=width, height=height)

    @property
    def inversion_effort(self) -> Effort:
        """How much work the inversion may be."""
        return part(self, Effort)


def each(settings: Settings | Sequence[Settings], photos: Sized) -> list[Settings]:
    """The settings of each photo, where one may stand for all."""
    return [settings] * len(photos) if isinstance(settings, Settings) else list(settings)
