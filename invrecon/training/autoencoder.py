"""The autoencoder of `mini`: trained for fidelity first, then its decoder against a patch critic.

Fidelity phase, encoder and decoder:
    |y - x| + 2 (y - x)^2 + 1/2 |grad y - grad x| + 1e-5 KL(q(z|x), N(0, 1))
Adversarial phase, decoder alone:
    the same without KL, + w * hinge loss of a patch critic
(as Esser et al. 2021, arXiv:2012.09841, and Rombach et al. 2022, arXiv:2112.10752, with image gradients in
place of LPIPS, whose weights are not free of a download). The encoder is settled after the first phase,
so a denoiser may be trained meanwhile.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from invrecon.training import checkpoint, muon
from invrecon.training.data import Corpus, to_unit


@dataclass(frozen=True)
class AutoencoderRun:
    """Settings of a training run; `pixels` is the number of pixels in a batch, `start_from` an exported
    checkpoint to go on from.
    """

    latent_channels: int = 12
    block_out_channels: tuple[int, ...] = (32, 64, 128, 192)
    steps: int = 6500
    adversarial_steps: int = 2000
    muon_rate: float = 3e-3
    adam_rate: float = 1e-3
    pixels: int = 8 * 64 * 64
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


class Critic(nn.Sequential):
    """Patch critic (PatchGAN, arXiv:1611.07004): (B, 3, H, W) -> (B, 1, H/8, W/8) scores."""

    def __init__(self, width: int = 48) -> None:
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for i in range(2):
            layers += [
                nn.Conv2d(width << i, width << i + 1, 4, 2, 1),
                nn.GroupNorm(8, width << i + 1),
                nn.LeakyReLU(0.2),
            ]
        super().__init__(*layers, nn.Conv2d(width << 2, 1, 3, 1, 1))


def train(
    folder: Path, state: Path, run: AutoencoderRun, report: Callable[[str], None] = print
) -> AutoencoderKL:
    """Trains, or goes on from `state`, to the end of both phases; returns the averaged model."""
    device = torch.device(run.device)
    vae = AutoencoderKL.from_pretrained(run.start_from, subfolder="vae") if run.start_from else build(run)
    vae, critic = checkpoint.placed(vae, device), checkpoint.placed(Critic(), device)
    average = checkpoint.averaged(vae)
    optimizers = muon.optimizers(
        vae, run.muon_rate, run.adam_rate, outer=("conv_in", "decoder.conv_out", "quant_conv")
    )
    rates = {optimizer: optimizer.param_groups[0]["lr"] for optimizer in optimizers.values()}
    critic_optimizer = torch.optim.AdamW(critic.parameters(), lr=3e-4, betas=(0.5, 0.9))
    models = {"vae": vae, "average": average, "critic": critic}
    stateful = {**optimizers, "critic": critic_optimizer}
    start = checkpoint.load(state, models, stateful)
    corpus = Corpus(folder, seed=start)
    begun, squared_error = time.monotonic(), torch.zeros((), device=device)
    for step in range(start, run.steps + run.adversarial_steps):
        adversarial = step >= run.steps
        vae.encoder.requires_grad_(not adversarial)
        vae.quant_conv.requires_grad_(not adversarial)
        for optimizer, rate in rates.items():
            optimizer.param_groups[0]["lr"] = rate * _pace(run, step)
        x = _batch(corpus, run, step).to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            with torch.set_grad_enabled(not adversarial):
                posterior = vae.encode(x).latent_dist
                latents = posterior.sample()
            y = vae.decode(latents).sample.float()
        loss = error = fidelity(y, x)
        if adversarial:
            with torch.autocast(device.type, torch.bfloat16):
                gain = -critic(y).mean().float()
            loss = loss + _adaptive_weight(error, gain, vae.decoder.conv_out.weight) * gain
        else:
            loss = loss + 1e-5 * posterior.kl().mean() / latents[0].numel()
        vae.zero_grad()
        loss.backward()
        for optimizer in rates:
            optimizer.step()
        average.update_parameters(vae)
        if adversarial:
            with torch.autocast(device.type, torch.bfloat16):
                judgement = F.relu(1 - critic(x)).mean() + F.relu(1 + critic(y.detach())).mean()
            critic_optimizer.zero_grad()
            judgement.backward()
            critic_optimizer.step()
        squared_error += F.mse_loss(y.detach(), x)
        if (step + 1) % 100 == 0:
            psnr = -10 * math.log10(squared_error.item() / 100 / 4)
            squared_error.zero_()
            pace = (time.monotonic() - begun) / (step + 1 - start)
            report(f"autoencoder {step + 1}: {psnr:.2f} dB in training, {pace:.2f} s/step")
        if (step + 1) % 500 == 0 or step + 1 in (run.steps, run.steps + run.adversarial_steps):
            checkpoint.save(state, step + 1, models, stateful)
    return load(state, run)


def load(state: Path, run: AutoencoderRun) -> AutoencoderKL:
    """The averaged autoencoder of a run."""
    vae = build(run)
    checkpoint.load_average(state, "average", vae)
    return vae


def fidelity(y: Tensor, x: Tensor) -> Tensor:
    """|y - x| + 2 (y - x)^2 + 1/2 |grad y - grad x|, mean over a batch in [-1, 1]."""
    difference = y - x
    gradient = difference.diff(dim=2).abs().mean() + difference.diff(dim=3).abs().mean()
    return difference.abs().mean() + 2 * difference.square().mean() + 0.5 * gradient


def _adaptive_weight(error: Tensor, gain: Tensor, last: Tensor) -> Tensor:
    """Scales the critic's gradient at the decoder's last layer to a fifth of the fidelity's."""
    (of_error,) = torch.autograd.grad(error, last, retain_graph=True)
    (of_gain,) = torch.autograd.grad(gain, last, retain_graph=True)
    return (0.2 * of_error.norm() / (of_gain.norm() + 1e-6)).clamp(max=10).detach()


def _pace(run: AutoencoderRun, step: int) -> float:
    """Factor of the learning rates: one cosine a phase, after a short warm-up."""
    adversarial = step >= run.steps
    done, total = (step - run.steps, run.adversarial_steps) if adversarial else (step, run.steps)
    return (
        (0.15 if adversarial else 1.0)
        * min(1.0, (step + 1) / 50)
        * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done / total)))
    )


def _batch(corpus: Corpus, run: AutoencoderRun, step: int) -> Tensor:
    """Crops of 64 to 256 pixels in turn (group norms must meet them all); three photos to one composite."""
    size = (64, 128, 64, 128, 64, 128, 128, 256)[step % 8]
    pictures = []
    for i in range(max(1, run.pixels // size**2)):
        picture = (corpus.composite(size) if (i + step // 4) % 4 == 3 else corpus.photo_crop(size))[0]
        pictures.append(_jitter(picture, corpus) if corpus.random.random() < 0.1 else picture)
    return to_unit(pictures)


def _jitter(picture: Tensor, corpus: Corpus) -> Tensor:
    """Turned by 90 degrees, with its colour channels in another order."""
    order = corpus.random.sample(range(3), 3)
    return picture[order].rot90(corpus.random.randrange(4), (1, 2))
