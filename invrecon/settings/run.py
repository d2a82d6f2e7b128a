"""All settings of a run."""

from dataclasses import dataclass
from typing import Literal

from invrecon.errors import UsageError
from invrecon.settings.boosting import Boosting
from invrecon.settings.checkpoint import Checkpoint
from invrecon.settings.effort import Effort
from invrecon.settings.hardware import Hardware
from invrecon.settings.recipe import Recipe
from invrecon.settings.search import GuidanceSettings
from invrecon.settings.table import documented, part, setting


@documented
@dataclass(frozen=True)
class Settings(Checkpoint, Recipe, GuidanceSettings, Effort, Boosting, Hardware):
    """What shapes a result: `Settings(prompt="a cat", num_inference_steps=20)`.

    Raises:
        UsageError: a setting is out of its range, or contradicts another.
    """

    fit: Literal["crop", "pad", "stretch"] = setting(
        "crop", "How a photo is laid on the square that the model sees."
    )
    seed: int = setting(
        0, "Seed of the random generators; inversion draws nothing at random.", low=0, high=2**63 - 1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.auto_guidance and self.prompt == self.negative_prompt:
            raise UsageError(
                "guidance does nothing where prompt and negative prompt are alike: "
                "say what the photo shows with --prompt"
            )

    @property
    def recipe(self) -> Recipe:
        """What the seed belongs to."""
        return part(self, Recipe)

    @property
    def effort(self) -> Effort:
        """How much work the inversion may be."""
        return part(self, Effort)
