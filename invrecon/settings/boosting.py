"""How image latents are boosted."""

import math
from dataclasses import dataclass
from typing import Literal

from invrecon.settings.table import Group, documented, setting


@documented
@dataclass(frozen=True)
class Boosting(Group):
    """Image Latent Boosting (ILB): gradients through the decoder lift latents above what the encoder finds.

    It costs most of a reconstruction's time. `target_psnr` and `max_seconds` end it early; photos of a batch
    share one clock.
    """

    title = "Quality and time: boosting"

    boost: bool = setting(
        True,
        "Boost the image latents above the autoencoder's own (ILB). Better, and slower; most of the time "
        "goes there.",
    )
    boost_rounds: int = setting(
        1,
        "Descents through the decoder, each followed by an inversion. Each of them takes as long again.",
        low=0,
        high=100,
    )
    decoder_steps: int = setting(
        60,
        "Passes through the decoder in each of them, at most. More of them gain less and less; fewer of "
        "them are quicker.",
        low=1,
        high=10_000,
    )
    decoder_dtype: Literal["auto", "float32", "bfloat16"] = setting(
        "auto",
        "Precision of these passes; auto takes bfloat16 for the first third where the processor or card "
        "computes in it. float32 is slower there, and rules rounding out.",
    )
    proximal_weight: float | Literal["auto"] = setting(
        "auto",
        "Keeps boosted latents where the network knows them; auto takes little and limits the seed's norm. "
        "More of it gives seeds more like noise, and less PSNR.",
        low=0,
        high=1e6,
    )
    perceptual_weight: float = setting(
        0.0,
        "Weight of 1 - SSIM in boosting, beside the squared error of pixels in [-1, 1]. Raise it where "
        "structure counts more than PSNR.",
        low=0,
        high=1e6,
    )
    target_psnr: float = setting(
        math.inf, "Stop boosting at so many dB. Give it to save time where that is enough.", low=0
    )
    max_seconds: float = setting(
        math.inf, "Stop boosting after so many seconds. The photos of a batch share them.", low=0
    )
    ablation: bool = setting(
        False, "Also measure LBO and ILB alone, to see what each contributes. It takes about twice as long."
    )
    decoder_ceiling: bool = setting(
        False, "Also find what the decoder could give at best, to see how much is left to gain. Slow."
    )
