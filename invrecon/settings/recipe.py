"""What a seed belongs to: another prompt, grid or size makes another picture of it."""

from dataclasses import dataclass
from typing import Literal

from invrecon.settings.table import Group, documented, setting, settings_of


@documented
@dataclass(frozen=True)
class Sampling(Group):
    """How a picture is made of seed noise. Inversion and regeneration share it."""

    title = "What the photo is"

    prompt: str = setting(
        "", "What the photo shows, in words. Guidance and edits need it.", unicode=True, common=True
    )
    negative_prompt: str = setting(
        "", "What guidance leads away from. It counts with guidance only.", unicode=True
    )
    num_inference_steps: int = setting(
        50,
        "Steps of the sampler. More of them are easier to invert and take longer; fewer of them are quicker.",
        low=1,
        high=1000,
        flags=("--steps",),
        common=True,
    )
    guidance_scale: float = setting(
        1.0,
        "How much the prompt counts, as the pipeline takes it; 1, the default, means no guidance. More is "
        "harder to invert. auto finds the most that the photo bears.",
        low=0,
        high=100,
        auto="auto_guidance",
        common=True,
    )
    sampler: Literal["auto", "ddim", "euler", "dpm++"] = setting(
        "auto",
        "Sampler that the seed is for; auto is the checkpoint's own. Change it if you use the seed with "
        "another.",
    )


@documented
@dataclass(frozen=True)
class Recipe(Sampling):
    """How a picture of a certain size is made of seed noise. A seed file holds it."""

    width: int = setting(256, "Of the picture, pixels.", low=64, high=2048, multiple_of=8, flags=())
    height: int = setting(256, "Of the picture, pixels.", low=64, high=2048, multiple_of=8, flags=())


SAMPLERS = settings_of(Sampling)["sampler"].words
