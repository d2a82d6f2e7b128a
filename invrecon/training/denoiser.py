"""The denoiser of `mini`: a U-Net and a text encoder, trained together on image latents.

Loss: ‖v(z_t, t, c) - (a eps - s z_0)‖² with z_t = a z_0 + s eps, z_0 = scale E(x) + noise (v-prediction,
arXiv:2202.00512), captions dropped one time in ten for guidance.

t = 1000 u^1.5 with u uniform, since inverting is hardest where there is little noise. Every picture's latents
get noise of their own deviation, `latent_noise` u²: boosted latents, which differ from the encoder's by a
fraction of their deviation, are then no strangers to the network, and its answer at small t is no longer so
steep that inversion hardly contracts.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from invrecon.training import checkpoint, muon
from invrecon.training.autoencoder import Report
from invrecon.training.clock import Clock
from invrecon.training.scenes import Corpus, to_unit

SKIPPED = 16  # levels of noise, see `scheduler`


@dataclass(frozen=True)
class DenoiserRun:
    """Settings of a training run.

    Attributes:
        shapes: (height, width, weight) of the pictures, in pixels: areas of 96 to 384 squared, 1:2 to 2:1.
        pictures: how many are encoded beforehand, over all shapes by weight.
        positions: latent positions in a batch; a batch holds as many pictures of a shape as that allows.
        latent_noise: the largest deviation of the noise that image latents get, in units of theirs.
        seconds: how long training takes in all, in processor time on a CPU; its learning rates go by the
            share of them that is spent.
        scaled: whether image latents are divided by their deviation; else their scale is the autoencoder's.
        start_from: an exported checkpoint to go on from.
    """

    block_out_channels: tuple[int, ...] = (96, 144, 192)
    text_width: int = 192
    text_layers: int = 3
    shapes: tuple[tuple[int, int, int], ...] = (
        *((96, 96, 1), (128, 128, 6), (96, 176, 2), (176, 96, 2), (104, 152, 2), (152, 104, 2)),
        *((192, 192, 3), (160, 240, 2), (240, 160, 2), (136, 272, 1), (272, 136, 1)),
        *((256, 256, 6), (200, 296, 2), (296, 200, 2), (216, 312, 2), (312, 216, 2), (184, 360, 1)),
        *((360, 184, 1), (384, 384, 1), (312, 472, 1), (472, 312, 1)),
    )
    pictures: int = 60_000
    positions: int = 192 * 32 * 32
    seconds: float = 300
    muon_rate: float = 3e-3
    adam_rate: float = 1e-3
    latent_noise: float = 0.25
    scaled: bool = True
    start_from: Path | None = None
    device: str = "cpu"


SMALL = DenoiserRun(
    block_out_channels=(64, 96, 120),
    text_width=96,
    text_layers=1,
    shapes=((128, 128, 1),),
    pictures=4000,
    positions=24 * 16 * 16,
    seconds=1200,
)
"""Five million weights for pictures of 128 pixels: minutes on a CPU."""


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
            num_hidden_layers=run.text_layers,
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
    corpus: Corpus, encoder: Callable[[Tensor], Tensor], out: Path, run: DenoiserRun, report: Report = print
) -> None:
    """Encodes captioned pictures once: latents by shape and captions into one safetensors file.

    One picture in five is a crop of a photo, the others are composed.

    Args:
        encoder: pixels (B, 3, H, W) in [-1, 1] -> image latents (B, C, h, w).
    """
    tensors: dict[str, Tensor] = {}
    captions: dict[str, list[str]] = {}
    total = sum(weight for *_, weight in run.shapes)
    for height, width, weight in run.shapes:
        size = max(5, 64 * 128 * 128 // (height * width) // 5 * 5)
        means: list[Tensor] = []
        texts: list[str] = []
        while len(texts) < run.pictures * weight / total:
            composed, said = corpus.composed(size - size // 5, height, width)
            photos = [corpus.photo(height, width) for _ in range(size // 5)]
            pixels = to_unit(torch.cat([composed, torch.stack([picture for picture, _ in photos])]))
            with _halves(pixels.device):
                means.append(encoder(pixels).half().cpu())
            texts += [*said, *(caption for _, caption in photos)]
        name = f"{height}x{width}"
        tensors[name], captions[name] = torch.cat(means).contiguous(), texts
        report(f"encoded {len(texts)} pictures of {width} x {height} pixels")
    save_file(tensors, out, metadata={"captions": json.dumps(captions)})


def train(
    latents: Path, tokenizer: CLIPTokenizer, state: Path, run: DenoiserRun, report: Report = print
) -> tuple[nn.ModuleDict, float]:
    """Trains, or goes on from `state`, until `run.seconds` are spent.

    Returns averaged models and the latents' scaling factor.
    """
    device = torch.device(run.device)
    data, captions = _read(latents)
    scale = _scale(data) if run.scaled else 1.0
    data = {shape: values.to(device) for shape, values in data.items()}
    ids = {shape: _ids(tokenizer, texts).to(device) for shape, texts in captions.items()}
    empty = _ids(tokenizer, [""]).to(device)
    channels = next(iter(data.values())).shape[1]
    models = checkpoint.placed(_initial(run, channels, len(tokenizer)), device).train()
    average = checkpoint.averaged(models)
    outer = ("conv_in", "conv_out", "embedding", "time_emb")
    optimizers = muon.optimizers(models, run.muon_rate, run.adam_rate, outer)
    named = {"denoiser": models, "average": average}
    clock = Clock(device, run.seconds, *checkpoint.load(state, named, optimizers))
    alphas = scheduler().alphas_cumprod.to(device)
    generator = torch.Generator().manual_seed(clock.step)
    shapes, weights = [f"{h}x{w}" for h, w, _ in run.shapes], torch.tensor([float(s[2]) for s in run.shapes])
    total = torch.zeros((), device=device)
    while clock.running():
        for optimizer, rate in zip(optimizers.values(), (run.muon_rate, run.adam_rate), strict=True):
            optimizer.param_groups[0]["lr"] = rate * clock.pace()
        shape = shapes[int(weights.multinomial(1, generator=generator))]
        batch = max(1, run.positions // data[shape][0, 0].numel())
        chosen = torch.randint(len(data[shape]), (min(batch, 640),), generator=generator).to(device)
        dropped = torch.rand(len(chosen), 1, device=device) < 0.1
        tokens = torch.where(dropped, empty, ids[shape][chosen])
        image_latents = _noised(data[shape][chosen].float() * scale, run.latent_noise)
        loss = _loss(models, image_latents, tokens, alphas)
        models.zero_grad()
        loss.backward()
        for optimizer in optimizers.values():
            optimizer.step()
        average.update_parameters(models)
        total += loss.detach()
        clock.tick()
        if clock.step % 100 == 0:
            report(f"denoiser, step {clock.step}, {clock.spent:.0f} s: loss {total.item() / 100:.4f}")
            total.zero_()
        if clock.due():
            checkpoint.save(state, clock.step, clock.spent, named, optimizers)
    return load(latents, state, len(tokenizer), run)


def _halves(device: torch.device) -> torch.autocast:
    """bfloat16 where it is quicker, which for a U-Net is not on a CPU."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu")


def _read(latents: Path) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """The image latents and captions that `encode` wrote, by shape."""
    with safe_open(latents, "pt") as file:
        data = {shape: file.get_tensor(shape) for shape in checkpoint.names(file)}
        return data, json.loads(file.metadata()["captions"])


def _scale(data: dict[str, Tensor]) -> float:
    """One by the deviation of image latents of all shapes."""
    square = sum(values.float().square().sum().item() for values in data.values())
    return float((square / sum(values.numel() for values in data.values())) ** -0.5)


def _initial(run: DenoiserRun, channels: int, vocab_size: int) -> nn.ModuleDict:
    """The models that training begins with: fresh ones, or those of `start_from`."""
    if run.start_from:
        unet = UNet2DConditionModel.from_pretrained(run.start_from, subfolder="unet")
        text_encoder = CLIPTextModel.from_pretrained(run.start_from, subfolder="text_encoder")
        models = nn.ModuleDict({"unet": unet, "text_encoder": text_encoder})
    else:
        models = build(run, channels, vocab_size)
    if run.device == "cpu":  # there a quarter faster to train than the fused kind
        cast(UNet2DConditionModel, models["unet"]).set_attn_processor(AttnProcessor())
    return models


def load(latents: Path, state: Path, vocab_size: int, run: DenoiserRun) -> tuple[nn.ModuleDict, float]:
    """The averaged models of a run and the scaling factor of the latents."""
    data, _ = _read(latents)
    models = build(run, next(iter(data.values())).shape[1], vocab_size)
    checkpoint.load_average(state, "average", models)
    return models, _scale(data) if run.scaled else 1.0


def _noised(image_latents: Tensor, largest: float) -> Tensor:
    deviation = largest * torch.rand(len(image_latents), 1, 1, 1, device=image_latents.device).square()
    return image_latents + deviation * torch.randn_like(image_latents)


def _loss(models: nn.ModuleDict, image_latents: Tensor, tokens: Tensor, alphas: Tensor) -> Tensor:
    timesteps = (len(alphas) * torch.rand(len(image_latents), device=image_latents.device) ** 1.5).long()
    a, s = (value.sqrt().view(-1, 1, 1, 1) for value in (alphas[timesteps], 1 - alphas[timesteps]))
    noise = torch.randn_like(image_latents)
    noisy = (a * image_latents + s * noise).contiguous(memory_format=torch.channels_last)
    with _halves(noisy.device):
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
