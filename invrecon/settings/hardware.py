"""Where and how the networks run."""

from dataclasses import dataclass
from typing import Literal

from invrecon.errors import UsageError
from invrecon.settings.table import Group, documented, setting


@documented
@dataclass(frozen=True)
class Hardware(Group):
    """What the networks run on, which decides the time and the memory. Latents are float32 throughout."""

    device: Literal["auto", "cuda", "cpu", "mps"] = setting(
        "auto", "Where the networks run; auto takes CUDA, then MPS, then the CPU."
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = setting(
        "auto",
        "In what precision the networks run; auto takes a seed file's own; for photos bfloat16 on CUDA, or "
        "float16 on older cards, and float32 elsewhere. The halves take half the memory and invert less "
        "exactly.",
    )
    offload: Literal["none", "model", "sequential"] = setting(
        "none", "Keep idle parts on the CPU, where memory is short; needs CUDA and accelerate."
    )
    tiling: bool = setting(
        False,
        "Let the autoencoder work in tiles where a picture as a whole doesn't fit into the memory; "
        "costs several dB.",
    )
    batch_size: int | Literal["auto"] = setting(
        "auto",
        "Photos inverted at once; auto is 1, on CUDA as many as half of the free memory takes, 16 at most.",
        low=1,
        high=1024,
    )
    compile: bool = setting(
        False, "Let torch.compile make a program of the network; minutes, then faster. Needs a compiler."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.compile and self.offload != "none":
            raise UsageError("a compiled network has to stay on its device: leave out --compile or --offload")
