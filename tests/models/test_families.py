"""Every family there and back, with the real classes of diffusers under small random weights; the stock
pipeline has the last word.
"""

from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, FluxPipeline
from PIL import Image

from invrecon import Settings, invert, invert_batch, load_model, load_seed, reconstruct, save_seed, verify
from invrecon.errors import ModelError, UsageError
from invrecon.metrics import latent_fidelity, psnr
from invrecon.models.stock import StockPipeline
from invrecon.settings import Recipe
from tests import checkpoints

SETTINGS = Settings(size=64, num_inference_steps=5, prompt="a red apple", rtol=1e-4, boost=False)


@pytest.fixture(scope="module")
def folders(mini, tmp_path_factory):
    made = {}

    def folder(name):
        if name not in made:
            made[name] = checkpoints.save(
                tmp_path_factory.mktemp("family"), checkpoints.FAMILIES[name], mini.pipeline.tokenizer
            )
        return made[name]

    return folder


def there_and_back(folder, photo, **changes):
    """(result, the stock pipeline's picture and image latents)."""
    settings = replace(SETTINGS, **changes)
    model = load_model(str(folder), device="cpu")
    result = reconstruct(photo, model, settings)
    return result, *StockPipeline(model).regenerate(result.seed.latents, result.seed.recipe)


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
@pytest.mark.parametrize("name", checkpoints.FAMILIES)
def test_a_photo_goes_there_and_back_and_the_stock_pipeline_agrees(name, guidance_scale, folders, photo):
    ours, picture, latents = there_and_back(folders(name), photo, guidance_scale=guidance_scale)
    assert ("LCMScheduler draws noise at every step; ddim takes" in (ours.inversion.advice or "")) is (
        name == "lcm"
    )
    assert ours.inversion.converged_steps == 5
    assert ours.latent_fidelity_db > 75
    assert latent_fidelity(ours.seed.image_latents, latents) > 75
    assert psnr(ours.square, picture) > 60


@pytest.mark.parametrize("name", checkpoints.FAMILIES)
def test_a_batch_is_as_its_photos_alone(name, folders, photo):
    mirrored = photo.with_name("mirrored.png")
    with Image.open(photo) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mirrored)
    model = load_model(str(folders(name)), device="cpu")
    settings = replace(SETTINGS, guidance_scale=2.0)
    for one, path in zip(invert_batch([photo, mirrored], model, settings), (photo, mirrored), strict=True):
        assert latent_fidelity(invert(path, model, settings).seed.latents, one.seed.latents) > 75


@pytest.mark.parametrize("name", checkpoints.FAMILIES)
def test_boosting_lifts_the_picture_in_every_family(name, folders, photo):
    ours, picture, _ = there_and_back(
        folders(name),
        photo,
        boost=True,
        ablation=True,
        decoder_steps=30,
        guidance_scale=2.0,
    )
    plain, boosted = ours.inversion.boosted.rounds
    assert boosted.psnr > plain.psnr + 0.1
    assert boosted.distance < 10  # random networks and autoencoders leave much room, but not any
    assert psnr(ours.square, picture) > 55


@pytest.mark.parametrize("sampler", ["ddim", "euler", "dpm++"])
@pytest.mark.parametrize("name", ["sd", "sdxl", "lcm"])
def test_every_sampler_serves_every_family_that_is_not_flow_matching(name, sampler, folders, photo, tmp_path):
    model = load_model(str(folders(name)), device="cpu")
    result = reconstruct(photo, model, replace(SETTINGS, sampler=sampler))
    path = tmp_path / "x.seed.safetensors"
    save_seed(result.seed, path)
    assert load_seed(path).header["sampler"] == sampler
    assert load_seed(path).header["guidance_argument"] == "guidance_scale"
    again = reconstruct(
        path, load_model(str(folders(name)), device="cpu")
    )  # the file alone says which sampler
    assert latent_fidelity(result.seed.image_latents, again.seed.image_latents) > 100
    assert psnr(result.square, again.square) > 60
    assert verify(path, photo, model).latent_fidelity_db > 75


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_few_steps_of_a_turbo_model(name, steps, folders, photo):
    """Trailing Euler steps from pure noise, as SD-Turbo and SDXL-Turbo take them."""
    model = load_model(str(folders(name)), device="cpu")
    model.pipeline.scheduler.register_to_config(timestep_spacing="trailing")
    result = reconstruct(
        photo, model, replace(SETTINGS, num_inference_steps=steps, max_evaluations=100, sampler="euler")
    )
    assert result.seed.header["timesteps"][0] == 999
    assert result.latent_fidelity_db > 60


def test_dpm_solver_and_v_prediction_with_zero_terminal_snr(mini, photo, tmp_path):
    betas = checkpoints.BETAS | {
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
    }
    for number, scheduler in enumerate(
        (DDIMScheduler(**betas, clip_sample=False), DPMSolverMultistepScheduler(**betas))
    ):
        folder = checkpoints.save(
            tmp_path / str(number), checkpoints.stable_diffusion, mini.pipeline.tokenizer, scheduler
        )
        ours, picture, latents = there_and_back(folder, photo, num_inference_steps=8)
        assert ours.seed.header["sampler"] == ("ddim", "dpm++")[number]
        assert latent_fidelity(ours.seed.image_latents, latents) > 70
        assert psnr(ours.square, picture) > 55


def test_flux_s_seed_in_a_stock_pipeline_by_hand(folders, photo):
    """As the README tells it: the file holds (1, 16, h, w), and FluxPipeline takes patches."""
    ours, *_ = there_and_back(folders("flux dev"), photo, fit="crop", guidance_scale=3.5)
    stock = FluxPipeline.from_pretrained(folders("flux dev"))
    stock.set_progress_bar_config(disable=True)
    packed = FluxPipeline._pack_latents(ours.seed.latents, 1, 16, 8, 8)
    picture = stock(
        "a red apple", latents=packed, num_inference_steps=5, guidance_scale=3.5, height=64, width=64
    ).images[0]
    assert isinstance(picture, Image.Image)
    assert psnr(ours.square, picture) > 60


@pytest.mark.parametrize("name", checkpoints.FAMILIES)
def test_prompt_and_told_guidance_reach_the_network(name, folders):
    model = load_model(str(folders(name)), device="cpu")
    recipe = Recipe("a red apple", width=64, height=64)
    latents = torch.randn(1, model.latent_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = model.denoiser(recipe)(latents, 500)
        other = model.denoiser(replace(recipe, prompt="on a blue photo"))(latents, 500)
        assert not torch.allclose(plain, other, rtol=1e-3)
        guided = model.denoiser(replace(recipe, guidance_scale=3.0))
        assert torch.equal(plain, guided(latents, 500)) is (name == "flux schnell")  # distilled to do without
        assert guided.weight == (3.0 if name.startswith("sd") else 1.0)


@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3", "flux dev"])
def test_a_batch_is_denoised_as_its_photos_one_by_one(name, folders):
    model = load_model(str(folders(name)), device="cpu")
    negative = "blue" if model.has_negative_prompt else ""
    denoiser = model.denoiser(Recipe("a red apple", negative, guidance_scale=2.0, width=64, height=64))
    latents = torch.randn(2, model.latent_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        each = torch.cat([denoiser(one[None], 500) for one in latents])
        torch.testing.assert_close(denoiser(latents, 500), each, rtol=1e-4, atol=1e-5)


def test_sizes_and_samplers_that_a_family_cannot_do_are_refused(folders, photo):
    flux = load_model(str(folders("flux dev")), device="cpu")
    with pytest.raises(UsageError, match="multiples of 16"):
        reconstruct(photo, flux, replace(SETTINGS, size="72x72"))
    with pytest.raises(ModelError, match="--sampler euler"):
        reconstruct(photo, flux, replace(SETTINGS, sampler="ddim"))


@pytest.mark.parametrize(("options", "part"), [("with_t5", "text_encoder_2"), ("with_clip", "text_encoder")])
def test_a_text_encoder_that_the_stock_pipeline_needs_is_named(options, part, mini, tmp_path):
    path = checkpoints.save(tmp_path, checkpoints.flux, mini.pipeline.tokenizer, **{options: False})
    with pytest.raises(ModelError, match=f"it has no {part}, which FluxPipeline can't do without"):
        load_model(str(path), device="cpu")


@pytest.mark.parametrize(
    ("name", "part"),
    [("sdxl", "text_encoder_2"), ("sd3", "transformer"), ("flux dev", "vae"), ("sd", "tokenizer")],
)
def test_a_missing_part_is_named_in_one_line(name, part, folders, tmp_path):
    import shutil

    broken = shutil.copytree(folders(name), tmp_path / "broken")
    shutil.rmtree(broken / part)
    with pytest.raises(ModelError, match=part) as caught:
        load_model(str(broken), device="cpu")
    assert "\n" not in str(caught.value)


def test_a_half_precision_network_that_overflows_is_asked_again_in_float32(folders, photo):
    model = load_model(str(folders("sd")), device="cpu", dtype="bfloat16")
    layer = model.pipeline.unet.conv_in
    layer.register_forward_hook(
        lambda module, inputs, output: output * float("nan") if output.dtype == torch.bfloat16 else output
    )
    result = reconstruct(photo, model, replace(SETTINGS, dtype="bfloat16", num_inference_steps=2))
    assert model.pipeline.unet.dtype == torch.bfloat16
    assert result.seed.latents.isfinite().all()
    assert [step["float32"] for step in result.seed.header["steps"]] == [True, True]
    assert "float32" in result.inversion.advice
