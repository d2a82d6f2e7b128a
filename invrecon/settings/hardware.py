"""Where and how the networks run."""

import re
from dataclasses import dataclass
from typing import Literal

from invrecon.errors import UsageError
from invrecon.settings.table import Group, documented, setting

DEVICES = r"(cuda(:\d+)?|cpu|mps)(,(cuda(:\d+)?|cpu|mps))*"  # one for each worker


@documented
@dataclass(frozen=True)
class Hardware(Group):
    """What the networks run on, which decides the time and the memory. Latents are float32 throughout."""

    title = "Hardware"

    device: Literal["auto", "cuda", "cpu", "mps"] | str = setting(
        "auto",
        "Where the networks run; auto takes CUDA, then MPS, then the CPU. Name several, as in "
        "cuda:0,cuda:1, to have a worker on each.",
        pattern=DEVICES,
        pattern_shown="cuda:N,...",
        common=True,
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = setting(
        "auto",
        "In what precision the networks run. auto takes a seed file's own; for photos bfloat16 on CUDA, or "
        "float16 on older cards, and float32 elsewhere. The halves take half the memory and invert less "
        "exactly.",
    )
    offload: Literal["none", "model", "sequential"] = setting(
        "none",
        "Keep idle parts on the CPU, where the card's memory is short: model costs little time, sequential "
        "much and saves most. Needs CUDA and accelerate.",
    )
    tiling: bool = setting(
        False,
        "Let the autoencoder work in tiles where a picture as a whole doesn't fit into the memory; costs "
        "several dB.",
    )
    batch_size: int | Literal["auto"] = setting(
        "auto",
        "Photos inverted at once. auto is 1, on CUDA as many as half of the free memory takes, 16 at most. "
        "Lower it where memory runs out.",
        low=1,
        high=1024,
    )
    compile: bool = setting(
        False,
        "Let torch.compile make a program of the network: it takes minutes, then each photo is faster. For "
        "many photos of one shape. Needs a compiler.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.device != "auto" and not re.fullmatch(DEVICES, self.device):
            raise UsageError(
                f"device must be auto, cuda, cpu, mps, or several such as cuda:0,cuda:1, not {self.device!r}"
            )
        if self.compile and self.offload != "none":
            raise UsageError("a compiled network has to stay on its device: leave out --compile or --offload")
