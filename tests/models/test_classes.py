"""Folders saved by other pipelines that hold the same network."""

import pytest
import transformers

from invrecon.errors import ModelError
from invrecon.models import load_model
from invrecon.models.kinds import TITLES
from invrecon.settings import Recipe
from tests import checkpoints
from tests.models.weights import configure, copy

MADE = {
    "StableDiffusionPipeline": checkpoints.stable_diffusion,
    "StableDiffusionXLPipeline": checkpoints.stable_diffusion_xl,
    "StableDiffusion3Pipeline": checkpoints.stable_diffusion_3,
    "FluxPipeline": checkpoints.flux,
}

SAME_NETWORK = {
    "LatentConsistencyModelPipeline": "StableDiffusionPipeline",
    "LatentConsistencyModelImg2ImgPipeline": "StableDiffusionPipeline",
    "StableDiffusionInpaintPipeline": "StableDiffusionPipeline",
    "StableDiffusionXLImg2ImgPipeline": "StableDiffusionXLPipeline",
    "StableDiffusion3InpaintPipeline": "StableDiffusion3Pipeline",
    "FluxImg2ImgPipeline": "FluxPipeline",
}


@pytest.fixture(scope="module")
def folders(mini, tmp_path_factory):
    out = tmp_path_factory.mktemp("families")
    return {name: checkpoints.save(out / name, make, mini.pipeline.tokenizer) for name, make in MADE.items()}


@pytest.mark.parametrize(("name", "kind"), SAME_NETWORK.items())
def test_the_network_is_loaded_as_the_one_that_draws_from_text(folders, tmp_path, name, kind):
    path = copy(folders[kind], tmp_path / "m")
    configure(path / "model_index.json", _class_name=name)
    model = load_model(str(path), device="cpu")
    assert model.title in TITLES.values()
    assert type(model.pipeline).__name__ == kind
    assert model.fingerprint == load_model(str(folders[kind]), device="cpu").fingerprint


def test_a_published_lcm_folder(mini, tmp_path):
    """With what such folders name besides: a safety checker and a feature extractor, which aren't loaded."""
    path = checkpoints.save(tmp_path / "lcm", checkpoints.lcm, mini.pipeline.tokenizer)
    configure(
        path / "model_index.json",
        _class_name="LatentConsistencyModelPipeline",
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
        feature_extractor=["transformers", "CLIPImageProcessor"],
        requires_safety_checker=True,
    )
    model = load_model(str(path), device="cpu")
    assert model.schedule(Recipe(num_inference_steps=4, sampler="ddim")).timesteps[0] == 999


@pytest.mark.parametrize("channels", [5, 8, 9])
def test_a_network_that_takes_more_than_the_latents_is_refused(mini, tmp_path, channels):
    path = checkpoints.save(
        tmp_path / "m",
        checkpoints.stable_diffusion,
        mini.pipeline.tokenizer,
        in_channels=channels,
        out_channels=4,
    )
    configure(path / "model_index.json", _class_name="StableDiffusionInpaintPipeline")
    with pytest.raises(ModelError, match=f"takes {channels} channels"):
        load_model(str(path), device="cpu")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("NoSuchPipeline", "it is a NoSuchPipeline, which diffusers .* doesn't have"),
        ("StableDiffusionDepth2ImgPipeline", "only text-to-image pipelines"),
        ("StableDiffusionControlNetPipeline", "controlnet"),
    ],
)
def test_a_class_that_can_t_be_loaded_is_told_by_its_name(folders, tmp_path, name, said):
    path = copy(folders["StableDiffusionPipeline"], tmp_path / "m")
    configure(path / "model_index.json", _class_name=name)
    with pytest.raises(ModelError, match=said) as caught:
        load_model(str(path), device="cpu")
    assert "\n" not in str(caught.value)


def test_a_part_whose_class_needs_a_package_that_is_missing(folders, tmp_path, monkeypatch):
    """As diffusers and transformers mark what stands in its place: FLUX.2's processor needs torchvision."""
    path = copy(folders["StableDiffusionPipeline"], tmp_path / "m")
    lens = type("Lens", (), {"_backends": ["torch", "nosuch"]})
    monkeypatch.setattr(transformers, "Lens", lens, raising=False)
    for kind, said in (
        ("Lens", "its tokenizer is a Lens, which needs what isn't installed: pip install nosuch"),
        ("NoLens", "its tokenizer is a NoLens, which transformers doesn't have: a newer version of it may"),
    ):
        configure(path / "model_index.json", tokenizer=["transformers", kind])
        with pytest.raises(ModelError, match=said):
            load_model(str(path), device="cpu")
