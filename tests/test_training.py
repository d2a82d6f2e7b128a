"""The recipe end to end, on a handful of made pictures and networks of a few thousand weights."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline
from PIL import Image
from safetensors import safe_open
from typer.testing import CliRunner

from invrecon.models import load_model, model_folder
from invrecon.models.quiet import quiet
from invrecon.training import autoencoder, denoiser, export, judge, tokenizer
from invrecon.training.__main__ import app
from invrecon.training.cutouts import PAINTS, colour_name, to_hsv, to_rgb
from invrecon.training.scenes import Corpus

AUTOENCODER = autoencoder.AutoencoderRun(
    latent_channels=4, block_out_channels=(8, 8, 8, 8), seconds=1, sides=((64, 5), (96, 2))
)
DENOISER = denoiser.DenoiserRun(
    block_out_channels=(24, 24, 24),
    text_width=32,
    text_layers=1,
    shapes=((64, 64, 1), (64, 96, 1)),
    pictures=20,
    positions=256,
    seconds=2,
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
        ("textures", "0002.jpg", {"caption": ""}),
        ("cutouts", "0003.webp", {"caption": "ball", "weight": 4}),
        ("cutouts", "0004.webp", {"caption": "striped cup", "weight": 1}),
    ):
        (folder / "data" / kind).mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 255, (300, 300, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
        if kind == "cutouts":
            image = Image.new("RGBA", (80, 60), (200, 30, 40, 255))
        image.save(folder / "data" / kind / name)
        index[f"{kind}/{name}"] = entry
    (folder / "data" / "index.json").write_text(json.dumps(index))
    tokenizer.learn(Corpus(folder / "data").captions(200), folder / "tokenizer")
    return folder


@pytest.fixture(scope="module")
def corpus(folder):
    return Corpus(folder / "data", seed=1)


@pytest.fixture(scope="module")
def checkpoint(corpus, folder):
    """Trained in two goes, both networks, and exported."""
    reports = []
    for seconds in (0.5, AUTOENCODER.seconds):
        run = replace(AUTOENCODER, seconds=seconds)
        vae = autoencoder.train(corpus, folder / "autoencoder.safetensors", run, reports.append)
    denoiser.encode(
        corpus, autoencoder.encoder(vae, "cpu"), folder / "latents.safetensors", DENOISER, reports.append
    )
    words = tokenizer.load(folder / "tokenizer")
    for seconds in (1, DENOISER.seconds):
        models, scale = denoiser.train(
            folder / "latents.safetensors",
            words,
            folder / "denoiser.safetensors",
            replace(DENOISER, seconds=seconds),
            reports.append,
        )
    with quiet():
        export.export(vae, models, scale, words, folder / "out")
    return folder / "out"


def progress(path):
    with safe_open(path, "pt") as file:
        return int(file.metadata()["step"]), float(file.metadata()["seconds"])


def test_a_run_goes_on_where_it_stopped(checkpoint, folder):
    step, seconds = progress(folder / "denoiser.safetensors")
    assert step > 0
    assert seconds >= DENOISER.seconds
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


def test_a_denoiser_is_trained_on_the_latents_of_an_autoencoder_that_is_given(folder, tmp_path, monkeypatch):
    torch.manual_seed(0)
    vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
        scaling_factor=0.5,
    )
    vae.save_pretrained(tmp_path / "vae")
    run = tmp_path / "run"
    for part in ("data", "tokenizer"):
        shutil.copytree(folder / part, run / part)
    monkeypatch.setattr(denoiser, "SMALL", replace(DENOISER, seconds=0.5))
    options = ["--vae", str(tmp_path / "vae"), "--small"]
    for command in (["denoiser", str(run)], ["export", str(run), str(run / "out")]):
        result = CliRunner().invoke(app, [*command, *options], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    latents = safetensors.torch.load_file(run / "latents.safetensors")["64x64"]
    model = load_model(str(run / "out"))
    assert model.pipeline.vae.config.scaling_factor == 0.5
    pixels = Corpus(run / "data", seed=7).photo(64, 64)[0][None] / 127.5 - 1
    expected = 0.5 * vae.encode(pixels).latents  # z_0 as the sampler has it
    torch.testing.assert_close(model.encode(pixels), expected, rtol=2e-2, atol=2e-2)  # saved in halves
    assert latents.float().std() == pytest.approx(expected.std().item(), rel=0.5)


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


def test_a_denoiser_goes_on_from_an_exported_checkpoint(checkpoint, folder, tmp_path):
    run = replace(DENOISER, start_from=checkpoint)
    words = tokenizer.load(folder / "tokenizer")
    latents = folder / "latents.safetensors"
    still = replace(run, seconds=0.01, muon_rate=0, adam_rate=0)
    fresh, _ = denoiser.train(latents, words, tmp_path / "fresh.safetensors", still)
    known = (
        denoiser.load(latents, folder / "denoiser.safetensors", len(words), DENOISER)[0]
        .half()
        .float()
        .state_dict()
    )
    for name, value in fresh.state_dict().items():
        torch.testing.assert_close(value, known[name])


def test_scenes_show_the_colours_that_their_captions_name(corpus):
    scenes = [corpus.single(corpus.cutout(), "blue", 64, 96) for _ in range(20)]
    pictures = corpus.render(scenes, 64, 96).float()
    assert all("on a blue background" in scene.caption() for scene in scenes)
    for scene, picture in zip(scenes, pictures, strict=True):
        placed = scene.objects[0]
        row, column = int(placed.centre[1] * 64), int(placed.centre[0] * 96)
        assert colour_name(tuple((picture[:, row, column] / 255).tolist())) == placed.cutout.colour
        corners = picture[:, [0, 0, -1, -1], [0, -1, 0, -1]]
        assert (corners[2] > 1.2 * corners[:2].amax(0)).any()


def test_objects_are_painted_in_the_colours_that_they_are_named_by(corpus):
    painted = {cutout.colour for colours in corpus.objects for cutout in colours}
    assert len(painted) > 3
    assert painted <= set(PAINTS)


def test_twins_differ_in_one_thing(corpus):
    scene = next(s for s in corpus.scenes(40, 64, 64) if s.ground.photo is None)
    for _ in range(20):
        twin = corpus._twin(scene)
        same_ground = twin.ground == scene.ground
        same_object = twin.objects[0].cutout is scene.objects[0].cutout
        assert same_ground or same_object
        assert twin.objects[0].centre == scene.objects[0].centre


def test_hues_turn_and_return():
    rgb = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(to_rgb(to_hsv(rgb)), rgb)


def test_a_judge_learns_the_colour_of_the_ground_and_goes_on(corpus, tmp_path):
    torch.manual_seed(0)
    state = tmp_path / "judge.safetensors"
    judged = judge.train(corpus, ["ball", "cup"], state, seconds=9, batch=24, width=8)
    assert judge.on_scenes(judged, corpus, batches=1).ground > 0.3  # chance is 0.09
    again = judge.train(corpus, ["ball", "cup"], state, seconds=9, batch=24, width=8)  # nothing is left to do
    pictures = torch.randn(2, 3, judge.SIDE, judge.SIDE)
    assert torch.equal(again(pictures)[0], judged(pictures)[0])
