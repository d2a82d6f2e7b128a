"""The recipe end to end, on a handful of made pictures and networks of a few thousand weights."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image
from safetensors import safe_open

from invrecon.models import model_folder
from invrecon.models.quiet import quiet
from invrecon.training import autoencoder, data, denoiser, export, tokenizer

AUTOENCODER = autoencoder.AutoencoderRun(
    latent_channels=4, block_out_channels=(8, 8, 8, 8), steps=3, adversarial_steps=3, pixels=64 * 64
)
DENOISER = denoiser.DenoiserRun(
    block_out_channels=(24, 24, 24), text_width=32, groups=((128, 16), (256, 16)), batch=4, steps=4
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two photos and one cut-out, laid out as `prepare` does."""
    folder = tmp_path_factory.mktemp("run")
    random = np.random.default_rng(0)
    index = {}
    for kind, name, entry in (
        ("photos", "0000.jpg", {"caption": "grey noise"}),
        ("photos", "0001.jpg", {"caption": ""}),
        ("cutouts", "0002.webp", {"caption": "ball", "weight": 4}),
    ):
        (folder / "data" / kind).mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 255, (300, 300, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
        if kind == "cutouts":
            image = image.resize((80, 80))
            image.putalpha(255)
        image.save(folder / "data" / kind / name)
        index[f"{kind}/{name}"] = entry
    (folder / "data" / "index.json").write_text(json.dumps(index))
    tokenizer.learn(data.Corpus(folder / "data").captions(200), folder / "tokenizer")
    return folder


@pytest.fixture(scope="module")
def checkpoint(folder):
    """Trained in two goes, both networks, and exported."""
    reports = []
    for steps in (2, AUTOENCODER.steps):
        run = replace(AUTOENCODER, steps=steps, adversarial_steps=0)
        autoencoder.train(folder / "data", folder / "autoencoder.safetensors", run, reports.append)
    vae = autoencoder.load(folder / "autoencoder.safetensors", AUTOENCODER)
    denoiser.encode(folder / "data", vae, folder / "latents.safetensors", DENOISER, reports.append)
    words = tokenizer.load(folder / "tokenizer")
    for steps in (2, DENOISER.steps):
        models, scale = denoiser.train(
            folder / "latents.safetensors",
            words,
            folder / "denoiser.safetensors",
            replace(DENOISER, steps=steps),
            reports.append,
        )
    with quiet():
        export.export(vae, models, scale, words, folder / "out")
    return folder / "out"


def step_of(path):
    with safe_open(path, "pt") as file:
        return file.metadata()["step"]


def test_a_run_goes_on_where_it_stopped(checkpoint, folder):
    assert step_of(folder / "denoiser.safetensors") == "4"
    before = (folder / "denoiser.safetensors").read_bytes()
    denoiser.train(
        folder / "latents.safetensors",
        tokenizer.load(folder / "tokenizer"),
        folder / "denoiser.safetensors",
        DENOISER,
    )
    assert (folder / "denoiser.safetensors").read_bytes() == before  # nothing left to do


def test_the_stock_pipeline_runs_what_is_exported(checkpoint):
    with quiet():
        pipeline = StableDiffusionPipeline.from_pretrained(checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline(
        "a ball", num_inference_steps=2, height=64, width=64, generator=torch.Generator().manual_seed(0)
    ).images[0]
    assert image.size == (64, 64)
    assert np.asarray(image).std() > 0


def test_transformers_4_finds_its_own_names_in_what_is_exported_and_in_mini(checkpoint):
    """It reads vocab.json and merges.txt, and takes weights of other names for none."""
    for folder in (checkpoint, model_folder("mini")):
        with safe_open(folder / "text_encoder" / "model.safetensors", "pt") as file:
            assert all(name.startswith("text_model.") for name in file.keys())  # noqa: SIM118, it is no dict
        model = json.loads((folder / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"))["model"]
        assert json.loads((folder / "tokenizer" / "vocab.json").read_text(encoding="utf-8")) == model["vocab"]
        merges = (folder / "tokenizer" / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
        assert [tuple(line.split(" ")) for line in merges] == [tuple(pair) for pair in model["merges"]]


def test_mini_s_noise_schedule_is_the_recipe_s_and_skips_the_lowest_levels(mini):
    assert mini.scheduler("auto").config.trained_betas == denoiser.scheduler().config.trained_betas
    whole = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod
    abar = mini.scheduler("auto").alphas_cumprod
    torch.testing.assert_close(abar[0], whole[0])
    torch.testing.assert_close(
        abar[1 : 1000 - denoiser.SKIPPED], whole[1 + denoiser.SKIPPED :], rtol=1e-5, atol=0
    )
    assert (abar.diff() < 0).all()


def test_the_adversarial_phase_trains_the_decoder_alone(checkpoint, folder, tmp_path):
    run = replace(AUTOENCODER, steps=0, start_from=checkpoint)
    before = autoencoder.load(folder / "autoencoder.safetensors", AUTOENCODER).half().float().state_dict()
    after = autoencoder.train(folder / "data", tmp_path / "adversarial.safetensors", run).state_dict()
    moved = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert "decoder" in moved
    assert moved <= {"decoder", "post_quant_conv"}


def test_a_denoiser_goes_on_from_an_exported_checkpoint(checkpoint, folder, tmp_path):
    run = replace(DENOISER, steps=0, start_from=checkpoint)
    words = tokenizer.load(folder / "tokenizer")
    latents = folder / "latents.safetensors"
    still = replace(run, steps=1, muon_rate=0, adam_rate=0)
    fresh, _ = denoiser.train(latents, words, tmp_path / "fresh.safetensors", still)
    known = (
        denoiser.load(latents, folder / "denoiser.safetensors", len(words), DENOISER)[0]
        .half()
        .float()
        .state_dict()
    )
    for name, value in fresh.state_dict().items():
        torch.testing.assert_close(value, known[name])


def test_composites_show_the_colour_that_they_are_called(folder):
    corpus = data.Corpus(folder / "data", seed=1)
    for _ in range(60):
        picture, caption = corpus.composite(64)
        if "on a blue background" in caption:
            corner = picture[:, 0, 0].tolist()
            assert corner[2] > 1.3 * max(corner[:2])
            return
    raise AssertionError("no blue background in sixty")
