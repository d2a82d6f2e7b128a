"""What each effort costs and gives, as a Markdown table: `python -m invrecon.audit.efforts PHOTO...`.

The middle of each photo is reconstructed by `mini` at each effort. Figures are medians. Seconds are those of
the processor, comparisons included, without start-up.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from invrecon.models import load_model
from invrecon.pipeline import reconstruct
from invrecon.settings import EFFORTS, Settings

if TYPE_CHECKING:
    from invrecon.models import Model

TITLES = (
    "`--effort`", "steps", "decoder passes", "PSNR, dB", "over the autoencoder, dB", "latent fidelity, dB",
    "seed norm", "CPU seconds",
)  # fmt: skip


def row(effort: str, photos: Sequence[str], model: Model, size: int) -> str:
    """The table's row of one effort, Markdown."""
    settings = Settings(effort=effort, fit="crop", size=size)  # type: ignore[arg-type]
    figures = [_figures(photo, model, settings) for photo in photos]
    psnr, gain, fidelity, norm, seconds = (median(column) for column in zip(*figures, strict=True))
    work = f"| `{effort}` | {settings.num_inference_steps} | {settings.decoder_steps} "
    return work + f"| {psnr:.2f} | {gain:+.2f} | {fidelity:.0f} | {norm:.2f} | {seconds:.0f} |"


def _figures(photo: str, model: Model, settings: Settings) -> tuple[float, ...]:
    begun = time.process_time()
    result = reconstruct(photo, model, settings)
    seconds = time.process_time() - begun
    assert result.inversion  # as of all photos
    assert result.psnr is not None
    assert result.encoder_ceiling_db is not None
    gain = result.psnr - result.encoder_ceiling_db
    return result.psnr, gain, result.latent_fidelity_db, result.inversion.health.norm, seconds


if __name__ == "__main__":
    parser = ArgumentParser(description="What each effort costs and gives, as a Markdown table.")
    parser.add_argument("photos", nargs="+")
    parser.add_argument("--size", type=int, default=256)
    given = parser.parse_args()
    print("| " + " | ".join(TITLES) + " |\n" + "|---" * len(TITLES) + "|")
    for name in EFFORTS:
        print(row(name, given.photos, load_model("mini"), given.size), flush=True)
