"""Checkpoints of the real architecture with small random weights, saved and loaded through the path that
users take."""

import dataclasses
import shutil

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel

from invrecon import Settings, reconstruct
from invrecon.errors import ModelError
from invrecon.metrics import psnr
from invrecon.models import bundled_models, load_model, model_folder
from invrecon.models.quiet import quiet
from invrecon.models.samplers import make_scheduler
from tests.models.schedules import read_schedule


def save_checkpoint(folder, scheduler, tokenizer):
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4,
        scaling_factor=10.0,  # brings latents of random weights near unit deviation, as trained ones are
    )
    with torch.no_grad():
        unet.conv_out.weight *= (
            0.1  # trained networks change gently with their input; random ones need to be told
        )
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=37,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=32,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        unet=unet,
        text_encoder=text,
        tokenizer=tokenizer,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    with quiet():
        pipeline.save_pretrained(folder)
    return folder


BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
SCHEDULERS = {
    "epsilon": DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False),
    "v_prediction": DDIMScheduler(
        **BETAS, clip_sample=False, prediction_type="v_prediction", timestep_spacing="trailing"
    ),
    "sample": DDIMScheduler(**BETAS, clip_sample=False, prediction_type="sample", set_alpha_to_one=False),
    "pndm": PNDMScheduler(**BETAS, skip_prk_steps=True),
}


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_every_prediction_type_goes_there_and_back_through_the_stock_pipeline(
    kind, guidance_scale, mini, photo, tmp_path
):
    folder = save_checkpoint(tmp_path / kind, SCHEDULERS[kind], mini.pipeline.tokenizer)
    settings = Settings(
        size=64,
        num_inference_steps=7,
        guidance_scale=guidance_scale,
        prompt="a red apple",
        rtol=1e-4,
        boost=False,
    )
    ours = reconstruct(photo, load_model(str(folder), device="cpu"), settings)
    assert ours.latent_fidelity_db > 60
    with quiet():
        stock = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    stock.scheduler = DDIMScheduler.from_config(stock.scheduler.config, clip_sample=False)
    stock.set_progress_bar_config(disable=True)
    theirs = stock(
        "a red apple",
        latents=ours.seed.latents,
        num_inference_steps=7,
        guidance_scale=guidance_scale,
        height=64,
        width=64,
    )
    assert psnr(ours.square, theirs.images[0]) > 50


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [1, 3, 7, 50, 333])
@pytest.mark.parametrize("set_alpha_to_one", [True, False])
def test_the_schedule_takes_the_very_steps_of_the_scheduler(spacing, steps, set_alpha_to_one):
    scheduler = DDIMScheduler(
        **BETAS, clip_sample=False, timestep_spacing=spacing, set_alpha_to_one=set_alpha_to_one
    )
    schedule = read_schedule(scheduler, steps)
    scheduler.set_timesteps(steps)
    assert list(schedule.timesteps) == scheduler.timesteps.tolist()
    z, noise = torch.randn(5), torch.randn(5)
    for t, A, B in zip(schedule.timesteps, schedule.A, schedule.B, strict=True):
        torch.testing.assert_close(
            A * z + B * noise, scheduler.step(noise, t, z).prev_sample, rtol=1e-5, atol=1e-5
        )


def test_the_schedule_agrees_with_the_formula():
    scheduler = DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False)
    schedule = read_schedule(scheduler, 10)
    abar = scheduler.alphas_cumprod.double()
    for t, A, B in zip(schedule.timesteps, schedule.A, schedule.B, strict=True):
        start, end = abar[t], abar[max(t - 100, 0)]
        assert pytest.approx((end / start).sqrt().item(), rel=1e-6) == A
        assert (
            pytest.approx(((1 - end).sqrt() - (end / start).sqrt() * (1 - start).sqrt()).item(), abs=1e-6)
            == B
        )


@pytest.mark.parametrize("option", ["clip_sample", "thresholding"])
def test_a_scheduler_that_loses_information_is_refused_by_the_option_s_name(option):
    options = {"clip_sample": False, option: True}
    with pytest.raises(ModelError, match=option):
        make_scheduler("ddim", DDIMScheduler(**BETAS, **options))


def test_damaged_checkpoints_are_refused_in_one_line(tmp_path, mini):
    whole = save_checkpoint(tmp_path / "whole", SCHEDULERS["epsilon"], mini.pipeline.tokenizer)

    def broken(name):
        return shutil.copytree(whole, tmp_path / name)

    shutil.rmtree(broken("no-unet") / "unet")
    for path in broken("no-weights").glob("vae/*.safetensors"):
        path.unlink()
    for path in broken("truncated").glob("unet/*.safetensors"):
        path.write_bytes(path.read_bytes()[:5000])
    pickled = broken("pickled")
    for path in pickled.glob("unet/*.safetensors"):
        torch.save({}, pickled / "unet" / "diffusion_pytorch_model.bin")
        path.unlink()
    (broken("no-index") / "model_index.json").unlink()
    (broken("bad-index") / "model_index.json").write_text("{")
    index = broken("sdxl") / "model_index.json"
    index.write_text(index.read_text().replace("StableDiffusionPipeline", "StableDiffusionXLPipeline"))
    for name in ("no-unet", "no-weights", "truncated", "pickled", "no-index", "bad-index", "sdxl", "nowhere"):
        with pytest.raises(ModelError) as caught:
            load_model(str(tmp_path / name), device="cpu")
        assert "\n" not in str(caught.value), name


def test_mini_is_small_safe_and_whole():
    folder = model_folder("mini")
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert "mini" in bundled_models()
    assert sum(path.stat().st_size for path in files) <= 40_000_000
    assert max(path.stat().st_size for path in files) <= 16_000_000
    assert {path.suffix for path in files} <= {".json", ".txt", ".md", ".safetensors"}


def test_fingerprints_tell_weights_apart(tmp_path, mini):
    folders = [
        save_checkpoint(tmp_path / name, SCHEDULERS["epsilon"], mini.pipeline.tokenizer)
        for name in ("a", "b")
    ]
    path = next((folders[1] / "unet").glob("*.safetensors"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    prints = {load_model(str(folder), device="cpu").fingerprint for folder in folders}
    assert len(prints) == 2


def test_pixels_to_latents_shapes(mini):
    latents = mini.encode(torch.zeros(1, 3, 72, 136))
    assert latents.shape == (1, mini.latent_channels, 9, 17)
    assert mini.decode(latents).shape == (1, 3, 72, 136)


def test_half_precision_networks_keep_float32_latents(mini, photo, tmp_path):
    folder = save_checkpoint(tmp_path / "m", SCHEDULERS["epsilon"], mini.pipeline.tokenizer)
    settings = dataclasses.replace(Settings(), size=64, num_inference_steps=5, dtype="bfloat16", rtol=1e-3)
    result = reconstruct(photo, load_model(str(folder), device="cpu", dtype="bfloat16"), settings)
    assert result.seed.latents.dtype == torch.float32
    assert result.latent_fidelity_db > 25


def test_where_memory_is_short_the_decoder_s_gradient_is_made_block_by_block_and_is_the_same(monkeypatch):
    from invrecon.models.probing import autoencoder as module

    latents = torch.randn(1, 12, 8, 8, generator=torch.Generator().manual_seed(0))
    gradients, checkpointing = [], []
    for free in (1e12, 1e6):
        monkeypatch.setattr(module, "free_memory", lambda device, free=free: free)
        model = load_model("mini", device="cpu")
        z = latents.clone().requires_grad_()
        model.decode(z).square().mean().backward()
        gradients.append(z.grad)
        checkpointing.append(model.pipeline.vae.is_gradient_checkpointing)
    assert checkpointing == [False, True]
    torch.testing.assert_close(gradients[0], gradients[1])
