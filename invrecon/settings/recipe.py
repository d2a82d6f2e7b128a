"""What a seed belongs to: another prompt, grid or size makes another picture of it."""

from dataclasses import dataclass
from typing import Literal

from invrecon.settings.table import Group, documented, setting, settings_of


@documented
@dataclass(frozen=True)
class Recipe(Group):
    """How a picture is made of seed noise. Inversion and regeneration share it, and a seed file holds it."""

    prompt: str = setting("", "What the photo shows. Guidance and edits need it.", unicode=True)
    negative_prompt: str = setting("", "What guidance leads away from.", unicode=True)
    num_inference_steps: int = setting(
        50,
        "Steps of the sampler. More of them are easier to invert, and take longer.",
        low=1,
        high=1000,
        flags=("--steps",),
    )
    guidance_scale: float = setting(
        1.0,
        "1 means no guidance, more is harder to invert; auto finds the most that --guidance-loss allows.",
        low=1,
        high=100,
        auto="auto_guidance",
    )
    size: int = setting(
        256,
        "Side of the square that the model sees, a multiple of 8; best what it was trained on.",
        low=64,
        high=2048,
        multiple_of=8,
    )
    sampler: Literal["auto", "ddim", "euler", "dpm++"] = setting(
        "auto", "Sampler that the seed is for; auto is the checkpoint's own."
    )


SAMPLERS = settings_of(Recipe)["sampler"].words
