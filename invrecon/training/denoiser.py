"""The denoiser of `mini`: a U-Net and a text encoder, trained together on image latents.

Loss: ‖v(z_t, t, c) - (a eps - s z_0)‖² with z_t = a z_0 + s eps, z_0 = scale E(x) + noise (v-prediction,
arXiv:2202.00512), captions dropped one time in ten for guidance.

t = 1000 u^1.5 with u uniform, since inverting is hardest where there is little noise. Every picture's latents
get noise of their own deviation, `latent_noise` u²: boosted latents, which differ from the encoder's by a
fraction of their deviation, are then no strangers to the network, and its answer at small t is no longer so
steep that inversion hardly contracts.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from invrecon.training import checkpoint, muon
from invrecon.training.data import Corpus, to_unit

SKIPPED = 16  # levels of noise, see `scheduler`


@dataclass(frozen=True)
class DenoiserRun:
    """Settings of a training run.

    `groups` tells how many pictures of which size are encoded beforehand, `start_from` an exported checkpoint
    to go on from, `latent_noise` the largest deviation of the noise that image latents get, in units of
    theirs.
    """

    block_out_channels: tuple[int, ...] = (96, 144, 192)
    text_width: int = 128
    groups: tuple[tuple[int, int], ...] = ((128, 12000), (256, 4000))
    batch: int = 32
    steps: int = 8000
    muon_rate: float = 3e-3
    adam_rate: float = 1e-3
    latent_noise: float = 0.25
    start_from: Path | None = None
    device: str = "cpu"


def scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule without its lowest levels, for v-prediction:

        abar_t = abar'_{t + SKIPPED},      t >= 1

    abar_0, where sampling ends, stays as it was. Where a photo is plain and the network sure of it, a step
    shrinks latents by the ratio of noise after it to noise before, and the smaller that is, the harder the
    step is to invert. With ten of Stable Diffusion's steps the last but one shrinks them 8 times; with these
    it is 2.8 times there, and 4.3 times in the last.
    """
    betas = (
        0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) / 999 * torch.arange(1000 + SKIPPED, dtype=torch.float64)
    ).square()
    abar = (1 - betas).cumprod(0)
    abar = torch.cat([abar[:1], abar[SKIPPED + 1 :]])
    betas = 1 - abar / torch.cat([torch.ones(1), abar[:-1]])
    return DDIMScheduler(
        trained_betas=[float(f"{beta:.6g}") for beta in betas.tolist()],
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
    )


def build(run: DenoiserRun, latent_channels: int, vocab_size: int) -> nn.ModuleDict:
    """Untrained `unet` and `text_encoder`."""
    unet = UNet2DConditionModel(
        sample_size=32,
        in_channels=latent_channels,
        out_channels=latent_channels,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=run.block_out_channels,
        layers_per_block=1,
        cross_attention_dim=run.text_width,
        attention_head_dim=6,  # number of heads, in spite of its name
        norm_num_groups=8,
    )
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocab_size,
            hidden_size=run.text_width,
            intermediate_size=3 * run.text_width,
            projection_dim=run.text_width,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=32,
            hidden_act="quick_gelu",
            bos_token_id=vocab_size - 2,
            eos_token_id=vocab_size - 1,
            pad_token_id=vocab_size - 1,
        )
    )
    return nn.ModuleDict({"unet": unet, "text_encoder": text_encoder})


@torch.no_grad()
def encode(
    folder: Path, vae: AutoencoderKL, out: Path, run: DenoiserRun, report: Callable[[str], None] = print
) -> None:
    """Encodes captioned pictures once: latents by size and captions into one safetensors file."""
    corpus, tensors, captions = Corpus(folder, seed=7), {}, {}
    vae = checkpoint.placed(vae, torch.device(run.device)).eval()
    for size, count in run.groups:
        means, texts = [], []
        for done in range(0, count, 16):
            pairs = [
                corpus.photo_crop(size, True) if i % 8 == 7 else corpus.composite(size) for i in range(16)
            ]
            pixels = to_unit([picture for picture, _ in pairs]).to(
                run.device, memory_format=torch.channels_last
            )
            with torch.autocast(torch.device(run.device).type, torch.bfloat16):
                means.append(vae.encode(pixels).latent_dist.mode().half().cpu())
            texts += [text for _, text in pairs]
            if done % 800 == 0:
                report(f"encoded {done} of {count} at {size} pixels")
        tensors[str(size)], captions[str(size)] = torch.cat(means).contiguous(), texts
    save_file(tensors, out, metadata={"captions": json.dumps(captions)})


def train(
    latents: Path,
    tokenizer: CLIPTokenizer,
    state: Path,
    run: DenoiserRun,
    report: Callable[[str], None] = print,
) -> tuple[nn.ModuleDict, float]:
    """Trains to the end, from `state` if given; returns averaged models and the latents' scaling factor."""
    device = torch.device(run.device)
    with safe_open(latents, "pt") as file:
        data = {size: file.get_tensor(size).float() for size in checkpoint.names(file)}
        captions = json.loads(file.metadata()["captions"])
    scale = 1 / data["128"].std().item()
    ids = {size: _ids(tokenizer, texts) for size, texts in captions.items()}
    empty = _ids(tokenizer, [""])
    models = build(run, data["128"].shape[1], len(tokenizer))
    if run.start_from:
        unet = UNet2DConditionModel.from_pretrained(run.start_from, subfolder="unet")
        models = nn.ModuleDict(
            {
                "unet": unet,
                "text_encoder": CLIPTextModel.from_pretrained(run.start_from, subfolder="text_encoder"),
            }
        )
    models = checkpoint.placed(models, device).train()
    cast(UNet2DConditionModel, models["unet"]).set_attn_processor(
        AttnProcessor()
    )  # on a CPU a quarter faster to train than the fused kind
    average = checkpoint.averaged(models, decay=0.995)
    outer = ("conv_in", "conv_out", "embedding", "time_emb")
    optimizers = muon.optimizers(models, run.muon_rate, run.adam_rate, outer)
    named = {"denoiser": models, "average": average}
    start = checkpoint.load(state, named, optimizers)
    alphas = scheduler().alphas_cumprod.to(device)
    generator = torch.Generator().manual_seed(start)
    begun, total = time.monotonic(), torch.zeros((), device=device)
    for step in range(start, run.steps):
        pace = min(1.0, (step + 1) / 100) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / run.steps)))
        for optimizer, rate in zip(optimizers.values(), (run.muon_rate, run.adam_rate), strict=True):
            optimizer.param_groups[0]["lr"] = rate * pace
        size, batch = ("256", run.batch // 4) if step % 2 else ("128", run.batch)
        chosen = torch.randint(len(data[size]), (batch,), generator=generator)
        tokens = torch.where(torch.rand(batch, 1, generator=generator) < 0.1, empty, ids[size][chosen]).to(
            device
        )
        image_latents = _noised(data[size][chosen].to(device) * scale, run.latent_noise)
        loss = _loss(models, image_latents, tokens, alphas)
        models.zero_grad()
        loss.backward()
        for optimizer in optimizers.values():
            optimizer.step()
        average.update_parameters(models)
        total += loss.detach()
        if (step + 1) % 100 == 0:
            pace = (time.monotonic() - begun) / (step + 1 - start)
            report(f"denoiser {step + 1}: loss {total.item() / 100:.4f}, {pace:.2f} s/step")
            total.zero_()
        if (step + 1) % 500 == 0 or step + 1 == run.steps:
            checkpoint.save(state, step + 1, named, optimizers)
    return load(latents, state, len(tokenizer), run)


def load(latents: Path, state: Path, vocab_size: int, run: DenoiserRun) -> tuple[nn.ModuleDict, float]:
    """The averaged models of a run and the scaling factor of the latents."""
    with safe_open(latents, "pt") as file:
        data = file.get_tensor("128").float()
    models = build(run, data.shape[1], vocab_size)
    checkpoint.load_average(state, "average", models)
    return models, 1 / data.std().item()


def _noised(image_latents: Tensor, largest: float) -> Tensor:
    deviation = largest * torch.rand(len(image_latents), 1, 1, 1, device=image_latents.device).square()
    return image_latents + deviation * torch.randn_like(image_latents)


def _loss(models: nn.ModuleDict, image_latents: Tensor, tokens: Tensor, alphas: Tensor) -> Tensor:
    timesteps = (len(alphas) * torch.rand(len(image_latents), device=image_latents.device) ** 1.5).long()
    a, s = (value.sqrt().view(-1, 1, 1, 1) for value in (alphas[timesteps], 1 - alphas[timesteps]))
    noise = torch.randn_like(image_latents)
    noisy = (a * image_latents + s * noise).contiguous(memory_format=torch.channels_last)
    with torch.autocast(noisy.device.type, torch.bfloat16):
        condition = models["text_encoder"](tokens).last_hidden_state
        output = models["unet"](noisy, timesteps, encoder_hidden_states=condition).sample
    return F.mse_loss(output.float(), a * noise - s * image_latents)


def _ids(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    return tokenizer(
        texts,
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids
