"""The search for a guidance scale."""

from dataclasses import dataclass

from invrecon.settings.table import Group, documented, setting


@documented
@dataclass(frozen=True)
class AutoGuidance(Group):
    """How the largest guidance scale that still regenerates the photo is found: guidance_scale = "auto"."""

    title = "Quality and time: the search for guidance"

    auto_guidance: bool = setting(
        False, "Whether the guidance scale is found instead of given. It needs a prompt.", flags=()
    )
    guidance_loss: float = setting(
        0.1,
        "With --guidance-scale auto: PSNR in dB that guidance may cost, against what the autoencoder alone "
        "leaves of the photo. More allows a larger scale.",
        low=0,
        high=100,
    )
    max_guidance: float = setting(
        15.0,
        "With --guidance-scale auto: the largest scale to try. Each try is an inversion; less is quicker.",
        low=1,
        high=100,
    )
