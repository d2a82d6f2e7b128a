"""The autoencoder of `mini`, trained for fidelity:

    1/2 |y - x| + 4 (y - x)^2 + 1/4 |grad y - grad x| + 1e-5 KL(q(z|x), N(0, 1))

(as Rombach et al. 2022, arXiv:2112.10752, with image gradients in place of LPIPS, whose weights are not free
of a download, and without a patch critic, which costs fidelity.)
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from invrecon.training import checkpoint, muon
from invrecon.training.clock import Clock
from invrecon.training.scenes import Corpus, to_unit

Report = Callable[[str], None]
"""Takes one line about how training goes."""


@dataclass(frozen=True)
class AutoencoderRun:
    """Settings of a training run.

    Attributes:
        seconds: how long the run takes in all, in processor time on a CPU; its learning rates go by the share
            of them that is spent.
        sides: (side of the crops, crops in a batch), in turn. Group norms must meet small and large pictures.
        start_from: an exported checkpoint to go on from.
    """

    latent_channels: int = 12
    block_out_channels: tuple[int, ...] = (8, 16, 48, 192)
    seconds: float = 240
    muon_rate: float = 3e-3
    adam_rate: float = 1e-3
    sides: tuple[tuple[int, int], ...] = ((256, 32), (256, 32), (128, 96), (384, 14))
    start_from: Path | None = None
    device: str = "cpu"


def build(run: AutoencoderRun) -> AutoencoderKL:
    """An untrained AutoencoderKL; without attention, so that any picture size is like any other."""
    depth = len(run.block_out_channels)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * depth,
        up_block_types=("UpDecoderBlock2D",) * depth,
        block_out_channels=run.block_out_channels,
        layers_per_block=1,
        latent_channels=run.latent_channels,
        norm_num_groups=4,
        sample_size=256,
        mid_block_add_attention=False,
        force_upcast=False,
    )
    for name, module in vae.named_modules():
        if name.endswith("conv2"):  # every residual branch starts silent, so that colours get through at once
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return vae


def train(corpus: Corpus, state: Path, run: AutoencoderRun, report: Report = print) -> AutoencoderKL:
    """Trains, or goes on from `state`, until `run.seconds` are spent; returns the averaged model."""
    device = torch.device(run.device)
    vae = AutoencoderKL.from_pretrained(run.start_from, subfolder="vae") if run.start_from else build(run)
    vae = checkpoint.placed(vae, device)
    average = checkpoint.averaged(vae)
    outer = ("conv_in", "decoder.conv_out", "quant_conv")
    optimizers = muon.optimizers(vae, run.muon_rate, run.adam_rate, outer)
    rates = {optimizer: optimizer.param_groups[0]["lr"] for optimizer in optimizers.values()}
    models = {"vae": vae, "average": average}
    clock = Clock(device, run.seconds, *checkpoint.load(state, models, optimizers))
    squared_error = torch.zeros((), device=device)
    while clock.running():
        for optimizer, rate in rates.items():
            optimizer.param_groups[0]["lr"] = rate * clock.pace()
        x = _batch(corpus, *run.sides[clock.step % len(run.sides)])
        loss, y = _objective(vae, x)
        vae.zero_grad()
        loss.backward()
        for optimizer in rates:
            optimizer.step()
        average.update_parameters(vae)
        squared_error += F.mse_loss(y.detach(), x)
        clock.tick()
        if clock.step % 100 == 0:
            psnr = -10 * math.log10(squared_error.item() / 100 / 4)
            squared_error.zero_()
            report(f"autoencoder, step {clock.step}, {clock.spent:.0f} s: {psnr:.2f} dB in training")
        if clock.due():
            checkpoint.save(state, clock.step, clock.spent, models, optimizers)
    return load(state, run)


def load(state: Path, run: AutoencoderRun) -> AutoencoderKL:
    """The averaged autoencoder of a run."""
    vae = build(run)
    checkpoint.load_average(state, "average", vae)
    return vae


def encoder(vae: AutoencoderKL, device: str) -> Callable[[Tensor], Tensor]:
    """Pixels in [-1, 1] -> E(x)'s mean, unscaled."""
    placed = checkpoint.placed(vae, torch.device(device)).eval()
    return lambda pixels: placed.encode(pixels).latent_dist.mode()


def fidelity(y: Tensor, x: Tensor) -> Tensor:
    """1/2 |y - x| + 4 (y - x)^2 + 1/4 |grad y - grad x|, mean over a batch in [-1, 1]."""
    difference = y - x
    gradient = difference.diff(dim=2).abs().mean() + difference.diff(dim=3).abs().mean()
    return 0.5 * difference.abs().mean() + 4 * difference.square().mean() + 0.25 * gradient


def _objective(vae: AutoencoderKL, x: Tensor) -> tuple[Tensor, Tensor]:
    """The autoencoder's loss on a batch, and the decoded batch."""
    with torch.autocast(x.device.type, torch.bfloat16):
        posterior = vae.encode(x).latent_dist
        latents = posterior.sample()
        y = vae.decode(latents).sample.float()
    return fidelity(y, x) + 1e-5 * posterior.kl().mean() / latents[0].numel(), y


def _batch(corpus: Corpus, side: int, count: int) -> Tensor:
    """Crops of photos, one in five a composed scene, one in ten turned and recoloured."""
    composed = max(1, count // 5)
    pictures = [_jitter(corpus.photo(side, side)[0], corpus) for _ in range(count - composed)]
    return to_unit(torch.stack([*pictures, *corpus.composed(composed, side, side)[0]]))


def _jitter(picture: Tensor, corpus: Corpus) -> Tensor:
    """One picture in ten turned by 90 degrees, with its colour channels in another order."""
    if corpus.random.random() > 0.1:
        return picture
    order = corpus.random.sample(range(3), 3)
    return picture[order].rot90(corpus.random.randrange(4), (1, 2))
