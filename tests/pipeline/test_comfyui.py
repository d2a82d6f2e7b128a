"""Seeds for ComfyUI: the exported files alone make the picture, by a sampler in ComfyUI's variables."""

import json
import sys
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, StableDiffusion3Pipeline, StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizerFast
from typer.testing import CliRunner

from invrecon import load_model, load_seed, save_seed
from invrecon.cli.app import app
from invrecon.comfyui.nodes import LoadSeed
from invrecon.models import model_folder
from invrecon.models.quiet import quiet
from invrecon.pipeline.header import sampling_header
from invrecon.seedfile import Seed
from invrecon.settings import Recipe
from tests import checkpoints, loras
from tests.comfyui import read, sample
from tests.models.roundtrip import fidelity

STEPS = 5


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    tokenizer = CLIPTokenizerFast.from_pretrained(model_folder("mini") / "tokenizer")
    made = {"mini": model_folder("mini")}
    for name, prediction, one in (("eps", "epsilon", True), ("v", "v_prediction", False)):
        options = {"prediction_type": prediction, "set_alpha_to_one": one, "clip_sample": False}
        scheduler = DDIMScheduler(**checkpoints.BETAS, **options)
        made[name] = root / name
        checkpoints.save(made[name], checkpoints.stable_diffusion, tokenizer, scheduler)
    made["flow"] = root / "flow"
    checkpoints.save(made["flow"], checkpoints.stable_diffusion_3, tokenizer, False)
    return made


def seed_of(folder, sampler, path):
    """A seed file of random noise with the picture that stock diffusers makes of it; the pipeline."""
    model = load_model(str(folder), device="cpu")
    recipe = Recipe(num_inference_steps=STEPS, sampler=sampler, width=64, height=64)
    header = sampling_header(model, recipe, model.schedule(recipe))
    flow = header["schedule"]["prediction"] == "flow"
    if flow:
        without = ("text_encoder_3", "tokenizer_3", "image_encoder", "feature_extractor")
        pipe = StableDiffusion3Pipeline.from_pretrained(folder, **dict.fromkeys(without))
    else:
        pipe = StableDiffusionPipeline.from_pretrained(folder)
    if sampler == "euler" and not flow:
        pipe.scheduler = EulerDiscreteScheduler.from_config(header["scheduler"]["config"])
    pipe.set_progress_bar_config(disable=True)
    shape = (1, model.latent_channels, 64 // model.downsampling, 64 // model.downsampling)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    call = {"latents": noise, "num_inference_steps": STEPS, "guidance_scale": 1.0, "output_type": "latent"}
    with quiet():
        z = pipe("", height=64, width=64, **call).images
    save_seed(Seed(noise, z, header), path)
    return pipe, z


def network_of(pipe, flow):
    if flow:
        embeddings, _, pooled, _ = pipe.encode_prompt("", "", "", do_classifier_free_guidance=False)
        return lambda x, t: pipe.transformer(x, embeddings, pooled, t[None], return_dict=False)[0]
    embeddings, _ = pipe.encode_prompt("", "cpu", 1, False)
    return lambda x, t: pipe.unet(x, t, embeddings, return_dict=False)[0]


def export(path, out, *options):
    arguments = ["export", str(path), "--checkpoint", "m.safetensors", "--out", str(out), *options]
    return CliRunner().invoke(app, arguments)


@pytest.mark.parametrize(
    ("name", "sampler"),
    [
        ("mini", "ddim"),
        ("mini", "euler"),
        ("eps", "ddim"),
        ("eps", "euler"),
        ("v", "ddim"),
        ("flow", "euler"),
    ],
)
@torch.no_grad()
def test_the_exported_files_alone_make_the_picture(folders, tmp_path, name, sampler):
    path = tmp_path / "a.seed.safetensors"
    pipe, z = seed_of(folders[name], sampler, path)
    result = export(path, tmp_path / "out")
    assert result.exit_code == 0, result.output
    latents, sigmas = read(tmp_path / "out", "a")
    if latents is None:  # flow: sampling starts at noise alone
        start = load_file(path)["latents"] * sigmas[0]
    else:
        start = latents * pipe.vae.config.scaling_factor
    alphas = getattr(pipe.scheduler, "alphas_cumprod", torch.tensor([0.5]))
    prediction = "flow" if name == "flow" else pipe.scheduler.config.prediction_type
    end = sample(start, sigmas, network_of(pipe, name == "flow"), prediction, alphas)
    own = z * (1 + sigmas[-1] ** 2) ** 0.5  # where a grid ends above 0, x = z / a
    assert fidelity(own.double(), end) > 60
    ends_above_zero = sampler == "ddim" and name in ("mini", "v")
    assert (sigmas[-1] > 0) == ends_above_zero


def nodes_of(folder, kind):
    graph = json.loads((folder / "a.api.json").read_text())
    return [node["inputs"] for node in graph.values() if node["class_type"] == kind]


@pytest.mark.parametrize("name", ["sdxl", "flux dev", "flux schnell"])
def test_workflows_of_xl_and_flux_are_what_the_nodes_declare(tmp_path, name):
    tokenizer = CLIPTokenizerFast.from_pretrained(model_folder("mini") / "tokenizer")
    model = load_model(
        str(checkpoints.save(tmp_path / "model", checkpoints.FAMILIES[name], tokenizer)), device="cpu"
    )
    guidance = 1.0 if name == "flux schnell" else 3.5
    settings = {"num_inference_steps": STEPS, "width": 96, "height": 64, "guidance_scale": guidance}
    recipe = Recipe(prompt="a {red} apple (ripe)", **settings)
    header = sampling_header(model, recipe, model.schedule(recipe))
    shape = (1, model.latent_channels, 64 // model.downsampling, 96 // model.downsampling)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    save_seed(Seed(noise, torch.zeros(shape), header), tmp_path / "a.seed.safetensors")
    result = export(tmp_path / "a.seed.safetensors", tmp_path / "out")
    assert result.exit_code == 0, result.output
    latents, sigmas = read(tmp_path / "out", "a")  # which checks both files
    assert len(sigmas) == STEPS + 1
    if name == "sdxl":
        assert latents.shape == shape
        positive, negative = nodes_of(tmp_path / "out", "CLIPTextEncodeSDXL")
        assert [positive[side] for side in ("width", "height", "target_width", "target_height")] == [
            96,
            64,
        ] * 2
        assert [positive["text_g"], positive["text_l"]] == ["a {red} apple \\(ripe\\)"] * 2
        assert [negative["text_g"], negative["text_l"]] == ["", ""]
        assert [node["cfg"] for node in nodes_of(tmp_path / "out", "SamplerCustom")] == [3.5]
    else:
        assert latents is None
        assert [node["cfg"] for node in nodes_of(tmp_path / "out", "CFGGuider")] == [1.0]
        given = [node["guidance"] for node in nodes_of(tmp_path / "out", "FluxGuidance")]
        assert given == ([3.5] if name == "flux dev" else [])
        [size] = nodes_of(tmp_path / "out", "EmptySD3LatentImage")
        assert (size["width"], size["height"]) == (96, 64)


@pytest.fixture
def comfy(monkeypatch, tmp_path):
    """Stands in for the two modules of ComfyUI that the nodes import."""

    def load_torch_file(path, safe_load=False, return_metadata=False):
        assert safe_load
        assert return_metadata
        with safe_open(path, "pt") as file:
            return load_file(path), file.metadata()

    utils = SimpleNamespace(load_torch_file=load_torch_file)
    paths = SimpleNamespace(
        get_input_directory=lambda: str(tmp_path), get_annotated_filepath=lambda name: str(tmp_path / name)
    )
    modules = {"comfy": SimpleNamespace(utils=utils), "comfy.utils": utils, "folder_paths": paths}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


def model_like(sigma_max=14.614641, channels=4, scale=10.0):
    objects = {
        "model_sampling": SimpleNamespace(sigma_max=torch.tensor(sigma_max)),
        "latent_format": SimpleNamespace(latent_channels=channels, scale_factor=scale),
    }
    return SimpleNamespace(get_model_object=objects.get)


def test_the_node_gives_the_same_start_as_noise_and_as_latents(folders, tmp_path, comfy):
    path = tmp_path / "a.seed.safetensors"
    seed_of(folders["eps"], "ddim", path)
    assert export(path, tmp_path / "out").exit_code == 0
    latents, sigmas = read(tmp_path / "out", "a")
    assert LoadSeed.INPUT_TYPES()["required"]["seed_file"] == (["a.seed.safetensors"],)
    for model, factor in ((None, sigmas[0]), (model_like(), sigmas[0])):
        noise, latent, grid, prompt, negative, cfg = LoadSeed().load("a.seed.safetensors", model)
        assert (prompt, negative, cfg) == ("", "", 1.0)
        torch.testing.assert_close(latent["samples"], latents)
        torch.testing.assert_close(grid, torch.tensor(sigmas))
        torch.testing.assert_close(noise.generate_noise(latent) * factor, latents * 10)
    at_largest = LoadSeed().load("a.seed.safetensors", model_like(sigma_max=sigmas[0]))[0]
    torch.testing.assert_close(at_largest.generate_noise(latent) * (1 + sigmas[0] ** 2) ** 0.5, latents * 10)
    for wrong, said in (
        (model_like(channels=16), "latent channels"),
        (model_like(scale=0.18215), "scales by"),
    ):
        with pytest.raises(ValueError, match=said):
            LoadSeed().load("a.seed.safetensors", wrong)
    with pytest.raises(ValueError, match="latents are"):
        noise.generate_noise({"samples": torch.zeros(1, 4, 1, 1)})


def seed_with(folder, path, recipe, **files):
    """A seed file of random noise under LoRAs and learnt words; the picture that the model makes of it."""
    model = load_model(str(folder), device="cpu", **files)
    header = sampling_header(model, recipe, model.schedule(recipe))
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    z = model.sampler(recipe).generate(noise)
    save_seed(Seed(noise, z, header), path)
    return z


@pytest.mark.parametrize("form", ["kohya", "peft"])
@torch.no_grad()
def test_loras_are_nodes_and_the_picture_is_that_of_their_strengths(folders, tmp_path, form):
    """As ComfyUI reads them: kohya's alphas, and none from metadata."""
    torch.manual_seed(2)
    pipe = StableDiffusionPipeline.from_pretrained(folders["eps"])
    changes = loras.FORMATS[form](pipe, tmp_path / "hat.safetensors", ["unet", "text_encoder"])
    seen = {key: change / (2.0 if form == "peft" else 1.0) for key, change in changes.items()}
    path, recipe = tmp_path / "a.seed.safetensors", Recipe("a photo", "", STEPS, width=64, height=64)
    z = seed_with(folders["eps"], path, recipe, lora=[f"{tmp_path / 'hat.safetensors'}:0.6"])
    assert export(path, tmp_path / "out").exit_code == 0
    latents, sigmas = read(tmp_path / "out", "a")
    graph = json.loads((tmp_path / "out" / "a.api.json").read_text())
    [(number, node)] = [item for item in graph.items() if item[1]["class_type"] == "LoraLoader"]
    strengths = node["inputs"]["strength_model"], node["inputs"]["strength_clip"]
    assert node["inputs"]["lora_name"] == "hat.safetensors"
    assert strengths == ((1.2, 1.2) if form == "peft" else (0.6, 0.6))
    for user, slot in (("CLIPTextEncode", "clip"), ("SamplerCustom", "model")):
        linked = [one["inputs"][slot] for one in graph.values() if one["class_type"] == user]
        assert {source for source, _ in linked} == {number}
    for part, strength in zip(("unet", "text_encoder"), strengths, strict=True):
        loras.merge(pipe, {key: change for key, change in seen.items() if key[0] == part}, strength)
    embeddings, _ = pipe.encode_prompt("a photo", "cpu", 1, False)
    start = latents * pipe.vae.config.scaling_factor
    network = partial(_ask, pipe.unet, embeddings)
    end = sample(start, sigmas, network, "epsilon", pipe.scheduler.alphas_cumprod)
    assert fidelity(z.double(), end) > 60


def _ask(unet, embeddings, x, t):
    return unet(x, t, embeddings, return_dict=False)[0]


def test_several_loras_follow_each_other_and_learnt_words_get_comfyui_s_name(folders, tmp_path):
    pipe = StableDiffusionPipeline.from_pretrained(folders["eps"])
    names = ["b.safetensors", "a.safetensors"]
    for name in names:
        loras.kohya(pipe, tmp_path / name, ["unet"])
    save_file({"<toy>": torch.randn(2, 32)}, tmp_path / "my(toy).safetensors")
    files = {
        "lora": [f"{tmp_path / names[0]}:0.5", str(tmp_path / names[1])],
        "embedding": [str(tmp_path / "my(toy).safetensors")],
    }
    path = tmp_path / "a.seed.safetensors"
    seed_with(
        folders["eps"], path, Recipe("a (red) <toy>, here", "<toy>", STEPS, width=64, height=64), **files
    )
    assert export(path, tmp_path / "out").exit_code == 0
    read(tmp_path / "out", "a")
    graph = json.loads((tmp_path / "out" / "a.api.json").read_text())
    nodes = [node["inputs"] for node in graph.values() if node["class_type"] == "LoraLoader"]
    assert [node["lora_name"] for node in nodes] == names
    assert [node["strength_clip"] for node in nodes] == [0.5, 1.0]
    assert (nodes[0]["model"], nodes[1]["model"], nodes[1]["clip"]) == (["1", 0], ["2", 0], ["2", 1])
    texts = [node["inputs"]["text"] for node in graph.values() if node["class_type"] == "CLIPTextEncode"]
    assert texts == ["a \\(red\\) embedding:my\\(toy\\) , here", "embedding:my\\(toy\\)"]


def test_a_latent_file_becomes_a_seed_again(folders, tmp_path):
    path = tmp_path / "a.seed.safetensors"
    seed_of(folders["eps"], "ddim", path)
    assert export(path, tmp_path).exit_code == 0
    arguments = ["import", str(tmp_path / "a.latent"), "--like", str(path), "--out", str(tmp_path / "back")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    torch.testing.assert_close(
        load_seed(tmp_path / "back" / "a.seed.safetensors").latents, load_seed(path).latents
    )


WORD = {"file": "toy.safetensors", "sha256": "0", "word": "<toy>"}
SPACED = WORD | {"file": "my toy.safetensors"}
LORA = {"file": "hat.safetensors", "sha256": "0", "weight": 0.5}


def with_attachments(seed, attachments):
    return {"identity": seed.header["identity"] | {"attachments": attachments}}


def test_what_is_not_exact_is_refused_in_a_line(folders, tmp_path):
    path = tmp_path / "a.seed.safetensors"
    seed_of(folders["eps"], "ddim", path)
    seed = load_seed(path)
    result = export(path, tmp_path / "out", "--to", "a1111")
    assert result.exit_code == 2
    assert "whole number" in result.stderr
    for change, said in (
        ({"sampler": "dpm++"}, "--sampler ddim"),
        ({"timesteps": [999.5] * STEPS}, "--sampler ddim"),
        (with_attachments(seed, {"hat": "0"}), "hat is attached"),
        (with_attachments(seed, {"embedding 1": WORD}) | {"prompt": "a <Toy>"}, "other capitals"),
        (with_attachments(seed, {"embedding 1": SPACED}) | {"prompt": "a <toy>"}, "no spaces in my toy"),
        (with_attachments(seed, {"lora 1": LORA | {"scales": {"unet": None}}}), "alphas of hat.safetensors"),
    ):
        other = tmp_path / "b.seed.safetensors"
        save_seed(Seed(seed.latents, seed.image_latents, seed.header | change), other)
        result = export(other, tmp_path / "out")
        assert result.exit_code == 1
        assert said in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert not list((tmp_path / "out").iterdir())
