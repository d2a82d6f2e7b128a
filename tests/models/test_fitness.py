"""Values that a checkpoint brings along are checked where they are read, in one line that names the part or
the setting."""

import math
import shutil
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline
from transformers import CLIPImageProcessor, CLIPProcessor
from typer.testing import CliRunner

from invrecon import Settings, invert, load_model, reconstruct, save_seed
from invrecon.cli.app import app
from invrecon.errors import InvreconError, ModelError, UsageError
from invrecon.metrics import psnr
from invrecon.models.checks import check_parts, is_finite
from invrecon.models.identity import describe
from invrecon.models.probing.prompts import check_prompts
from invrecon.models.quiet import quiet
from invrecon.models.samplers import SCHEDULERS, make_scheduler
from invrecon.pipeline.checkup import check
from invrecon.settings import Recipe
from tests import checkpoints
from tests.models.schedules import read_schedule
from tests.models.weights import configure, copy, refused, rewrite


@pytest.fixture(scope="module")
def folder(mini, tmp_path_factory):
    return checkpoints.save(
        tmp_path_factory.mktemp("sd"), checkpoints.stable_diffusion, mini.pipeline.tokenizer
    )


def tiny():
    widths = (16,) * 4
    return AutoencoderTiny(
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=(1,) * 4,
        num_decoder_blocks=(1,) * 4,
    )


@pytest.fixture
def tiny_folder(mini, tmp_path):
    def make(tokenizer):
        pipeline = checkpoints.stable_diffusion(tokenizer)
        pipeline.register_modules(vae=tiny())
        return pipeline

    return checkpoints.save(tmp_path / "tiny", make, mini.pipeline.tokenizer)


def test_a_tiny_autoencoder_s_latents_are_those_of_the_stock_pipeline(tiny_folder, photo):
    model = load_model(str(tiny_folder), device="cpu")
    pixels = torch.rand(1, 3, 64, 64) * 2 - 1
    assert torch.equal(model.encode(pixels), model.pipeline.vae.encode(pixels).latents)
    ours = reconstruct(photo, model, Settings(size=64, num_inference_steps=10, boost=False))
    with quiet():
        stock = StableDiffusionPipeline.from_pretrained(tiny_folder, safety_checker=None)
    stock.set_progress_bar_config(disable=True)
    theirs = stock(
        "", latents=ours.seed.latents, num_inference_steps=10, guidance_scale=1, height=64, width=64
    ).images[0]
    assert ours.latent_fidelity_db > 50
    assert psnr(ours.square, theirs) > 50


def test_another_autoencoder_takes_the_place_of_the_checkpoint_s_own(folder, tiny_folder, tmp_path):
    swapped = load_model(str(folder), device="cpu", vae=str(tiny_folder / "vae"))
    assert type(swapped.pipeline.vae) is AutoencoderTiny
    prints = {m.fingerprint for m in (swapped, load_model(str(folder), device="cpu"))}
    assert len(prints | {load_model(str(folder), device="cpu", vae=str(tiny_folder)).fingerprint}) == 2
    shutil.copy(next((tiny_folder / "vae").glob("*.safetensors")), tmp_path / "V.SFT")
    assert "lacks" in refused(folder, vae=str(tmp_path / "V.SFT"))  # read, but of another architecture
    assert "no autoencoder" in refused(folder, vae=str(tmp_path))
    narrow = checkpoints.autoencoder(8)
    narrow.save_pretrained(tmp_path / "narrow")
    assert "takes 4 channels" in refused(folder, vae=str(tmp_path / "narrow"))


def test_a_tokenizer_that_knows_no_length_gets_its_encoder_s(folder, tmp_path):
    path = copy(folder, tmp_path / "m")
    configure(path / "tokenizer" / "tokenizer_config.json", model_max_length=...)
    model = load_model(str(path), device="cpu")
    assert model.pipeline.tokenizer.model_max_length == 32
    model.denoiser(Recipe("a red apple", width=64, height=64))


NONSENSE = {
    "num_train_timesteps": (0, -1, 2.5e9, "many", 1000.0),
    "beta_end": (math.nan, 7, -0.5),
    "beta_start": (math.inf, "small"),
    "trained_betas": ([math.nan] * 1000, "all", [0.001] * 10),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in NONSENSE for value in NONSENSE[name]])
def test_a_scheduler_s_nonsense_is_told_by_the_setting_s_name(folder, tmp_path, name, value):
    path = copy(folder, tmp_path / "m")
    configure(path / "scheduler" / "scheduler_config.json", **{name: value})
    said = refused(path)
    assert name in said
    assert "scheduler_config.json" in said


def test_the_tokenizer_in_a_processor_is_checked_and_noted(folder):
    """FLUX.2 has one that prepares pictures too."""
    pipe = load_model(str(folder), device="cpu").pipeline
    own, noted = pipe.tokenizer, describe(pipe, pipe.scheduler, {}, {})["tokenizers"]
    pipe.tokenizer = CLIPProcessor(CLIPImageProcessor(), own)
    own.model_max_length = 10**30
    check_parts(pipe)
    assert own.model_max_length == 32
    assert describe(pipe, pipe.scheduler, {}, {})["tokenizers"] == noted
    with pytest.raises(UsageError, match="has 40 tokens, the text encoder takes 30"):
        check_prompts(pipe, {"prompt": "a " * 40})


def test_parts_that_do_not_belong_together(folder, mini, tmp_path):
    path = copy(folder, tmp_path / "wide")
    wide = checkpoints.clip(mini.pipeline.tokenizer, width=64)
    wide.save_pretrained(path / "text_encoder")
    assert "of width 32, its text encoders give 64" in refused(path)
    path = copy(folder, tmp_path / "short")
    mini.pipeline.tokenizer.__class__.from_pretrained(path / "tokenizer").save_pretrained(path / "tokenizer")
    configure(path / "text_encoder" / "config.json", vocab_size=100)
    rewrite(
        path / "text_encoder", lambda w: {n: v[:100] if "token_embedding" in n else v for n, v in w.items()}
    )
    assert "its text encoder 100: they don't belong together" in refused(path)
    path = copy(folder, tmp_path / "nine")
    checkpoints.unet(in_channels=9, out_channels=4).save_pretrained(path / "unet")
    assert "takes 9 channels" in refused(path)
    path = copy(folder, tmp_path / "scale")
    for name in ("scaling_factor", "shift_factor"):
        for value in (math.nan, "0.5", 2**70, 10**400):
            configure(
                path / "vae" / "config.json", **{"scaling_factor": 0.5, "shift_factor": 0.0, name: value}
            )
            assert f"its vae has the {name}" in refused(path)
    for values in (4.0, "text", [0.1, 0.2], [0.1, 0.2, 0.3, math.nan]):
        changes = {"scaling_factor": 0.5, "shift_factor": 0.0, "latents_mean": values}
        configure(path / "vae" / "config.json", **changes)
        assert "one finite latents_mean for each of 4 channels" in refused(path)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_told_by_their_part_and_name(folder, tmp_path, part, value):
    def spoil(weights):
        name = sorted(weights)[-1]
        weights[name].view(-1)[0] = value
        return weights

    path = copy(folder, tmp_path / "m")
    rewrite(path / part, spoil)
    assert f"its {part} has weights that aren't finite" in refused(path)


@pytest.mark.parametrize("kind", [torch.int8, torch.complex64, torch.float64])
def test_weights_of_other_types(folder, tmp_path, kind):
    path = copy(folder, tmp_path / "m")
    rewrite(path / "unet", lambda weights: weights | {"conv_in.bias": weights["conv_in.bias"].to(kind)})
    if kind == torch.float64:
        assert check(load_model(str(path), device="cpu"), Settings()).latent_fidelity_db > 40
    else:
        assert "conv_in.bias" in refused(path)


@pytest.mark.parametrize("length", ["x", [1], math.nan, 1e30, -1, 2])
def test_a_length_that_is_none(folder, tmp_path, length):
    path = copy(folder, tmp_path / "m")
    configure(path / "tokenizer" / "tokenizer_config.json", model_max_length=length)
    assert load_model(str(path), device="cpu").pipeline.tokenizer.model_max_length == 32


def test_an_autoencoder_s_shift_that_its_pipeline_needs_and_hasn_t_is_told(mini, tmp_path):
    path = checkpoints.save(tmp_path / "flux", checkpoints.flux, mini.pipeline.tokenizer)
    configure(path / "vae" / "config.json", shift_factor=None)
    with pytest.raises(ModelError, match="FluxPipeline can't be called so"):
        check(load_model(str(path), device="cpu"), Settings())


def test_an_autoencoder_that_can_t_decode_what_it_encodes_is_told(folder, tmp_path):
    path = copy(folder, tmp_path / "m")
    configure(path / "vae" / "config.json", up_block_types=["UpDecoderBlock2D"] * 3)
    rewrite(path / "vae", lambda w: {name: value for name, value in w.items() if "up_blocks.3" not in name})
    with pytest.raises(ModelError, match="AutoencoderKL can't be used: its decoder fails on what it encodes"):
        check(load_model(str(path), device="cpu"), Settings())


def test_a_text_encoder_that_can_t_run_is_told(mini, tmp_path):
    path = checkpoints.save(tmp_path / "flux", checkpoints.flux, mini.pipeline.tokenizer)
    configure(path / "text_encoder_2" / "config.json", relative_attention_max_distance=-1)
    with pytest.raises(ModelError, match="its text encoders can't run"):
        load_model(str(path), device="cpu").denoiser(Recipe("a red apple", width=64, height=64))


def test_weights_that_float16_can_t_hold(folder, tmp_path):
    path = copy(folder, tmp_path / "m")
    rewrite(path / "unet", lambda weights: weights | {"conv_in.bias": weights["conv_in.bias"] + 1e5})
    assert "use --dtype float32 or bfloat16" in refused(path, dtype="float16")


def overflowing(weights):
    """An autoencoder's finite weights, whose decoder overflows."""
    last = ("decoder.conv_norm_out.weight", "decoder.conv_out.weight")
    return {name: value * 1e30 if name in last else value for name, value in weights.items()}


def larger(name):
    return lambda weights: weights | {name: weights[name] * 1e38}


def test_checking_a_model_decodes_too(folder, tmp_path):
    path = copy(folder, tmp_path / "m")
    rewrite(path / "vae", overflowing)
    with pytest.raises(ModelError, match="decoder gives values that aren't finite"):
        check(load_model(str(path), device="cpu"), Settings())


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64", "complex64", "float8_e5m2"])
def test_numbers_are_finite_though_their_sum_is_not(dtype):
    """And are not, wherever one of them isn't."""
    dtype = getattr(torch, dtype)
    ends = torch.tensor([torch.finfo(dtype).max, torch.finfo(dtype).min], dtype=torch.float64)
    for values in (ends.repeat(9), ends[:1].repeat(9), ends[:0]):
        assert is_finite(values.to(dtype))
        for odd in (math.nan, math.inf, -math.inf):
            assert not is_finite(torch.cat([values, torch.tensor([odd])]).to(dtype))


@pytest.mark.parametrize(
    ("part", "weight", "says"),
    [
        ("unet", "conv_out.weight", "its unet gives values that aren't finite: the checkpoint is damaged"),
        (
            "vae",
            "encoder.conv_out.weight",
            "its vae's encoder gives values that aren't finite: use another with",
        ),
    ],
)
def test_finite_weights_that_overflow_are_told_by_their_part(folder, tmp_path, photo, part, weight, says):
    """Never "try float32", which it is."""
    path = copy(folder, tmp_path / "m")
    rewrite(path / part, larger(weight))
    model = load_model(str(path), device="cpu")
    with pytest.raises(ModelError, match=says):
        check(model, Settings())

    def keep():
        save_seed(
            invert(photo, model, Settings(size=64, num_inference_steps=2, boost=False)).seed,
            tmp_path / "x.safetensors",
        )

    with pytest.raises(InvreconError, match=r"aren't finite.*(with --vae|invrecon models check|damaged)"):
        keep()
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.parametrize("command", ["invert", "reconstruct", "boost", "imagine"])
@pytest.mark.parametrize(("part", "says"), [("vae", "its vae's decoder gives"), ("unet", "its unet gives")])
def test_an_overflow_ends_every_command_with_2_and_the_part_s_name(
    folder, tmp_path, photo, command, part, says
):
    """Boosting descends through the decoder: what it makes of an overflow isn't the network's fault."""
    path = copy(folder, tmp_path / "m")
    rewrite(path / part, overflowing if part == "vae" else larger("conv_out.weight"))
    options = ["--size", 64, "--steps", 2, "--device", "cpu", "--out", tmp_path / "out", "--model", path]
    done = CliRunner().invoke(app, [command, *map(str, [photo, *options])])
    if (part, command) == ("vae", "invert"):
        assert done.exit_code == 0  # nothing is decoded
        return
    assert done.exit_code == 2
    *_, told = done.stderr.splitlines()
    assert says in told
    assert not any((tmp_path / "out").iterdir())


def test_a_schedule_without_signal_at_its_start_is_told():
    options = {"clip_sample": False, "timestep_spacing": "trailing"}
    scheduler = DDIMScheduler(**checkpoints.BETAS | options, rescale_betas_zero_snr=True)
    with pytest.raises(ModelError, match=r"leaves no signal at timestep 999.*: use --sampler euler"):
        read_schedule(scheduler, 5)
    assert len(read_schedule(make_scheduler("euler", scheduler), 5).A) == 5
    steep = DDIMScheduler(**checkpoints.BETAS | {"beta_end": 1.0} | options)
    for sampler in SCHEDULERS:
        with pytest.raises(ModelError, match=r"leaves no signal.*: set beta_end in scheduler_config.json"):
            read_schedule(make_scheduler(sampler, steep), 5)
        mended = DDIMScheduler.from_config(steep.config, beta_end=0.012)
        assert len(read_schedule(make_scheduler(sampler, mended), 5).A) == 5


@pytest.mark.parametrize("sampler", ["ddim", "dpm++"])
def test_more_steps_than_a_sampler_takes_are_told_and_fewer_help(folder, sampler):
    """The checkpoint's schedule isn't blamed, and no other scheduler than the sampler is named."""
    model = load_model(str(folder), device="cpu")
    recipe = Recipe(num_inference_steps=1000, width=64, height=64, sampler=sampler)
    with pytest.raises(ModelError, match=r"can't take 1000 steps .*: take (fewer|another number) of them$"):
        model.schedule(recipe)
    assert len(model.schedule(replace(recipe, num_inference_steps=400)).A) == 400


def test_a_grid_outside_the_noise_schedule_is_told(folder, tmp_path):
    scheduler = DDIMScheduler(**checkpoints.BETAS | {"steps_offset": 999}, clip_sample=False)
    with pytest.raises(ModelError, match=r"can't take 5 steps.*set scheduler_config.json right"):
        read_schedule(scheduler, 5)
    path = copy(folder, tmp_path / "m")
    configure(path / "scheduler" / "scheduler_config.json", timestep_spacing="sideways")
    with pytest.raises(
        ModelError,
        match=r"can't take these steps: sideways .* set scheduler_config.json right",
    ):
        load_model(str(path), device="cpu").schedule(Recipe(num_inference_steps=5, width=64, height=64))


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_more_layers_than_weights_are_refused_before_they_are_made(folder, tmp_path, part):
    path = copy(folder, tmp_path / "m")
    configure(path / part / "config.json", layers_per_block=2**70)
    with pytest.raises(
        ModelError, match=rf"its {part} has layers_per_block \d+ in its config.json, and \d+ weights"
    ):
        load_model(str(path), device="cpu")
