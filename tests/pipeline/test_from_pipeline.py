"""A photo through a live pipeline, and back by the stock call."""

import numpy as np
import pytest
from diffusers import StableDiffusionPAGPipeline

from invrecon import (
    EditSettings,
    Model,
    Settings,
    edit,
    imagine,
    load_model,
    load_seed,
    reconstruct,
    save_seed,
    verify,
)
from invrecon.metrics import psnr
from invrecon.models.quiet import quiet
from invrecon.settings import Imagining
from tests.models.classic import CLASSIC
from tests.models.conditioned import CONDITIONED
from tests.models.pipelines import NEW, make

ALL = CLASSIC | CONDITIONED | NEW
SMALL = {"height": 64, "width": 96, "num_inference_steps": 10}
PLAIN = Settings(boost=False, rtol=1e-4)


@pytest.mark.parametrize(
    "name", ["sd", "flux dev", "z-image", "flux.2", "qwen", "controlnet", "ip-adapter", "pag"]
)
def test_the_stock_call_gives_the_picture_of_a_saved_seed(name, photo, tmp_path):
    pipe, call = make(ALL[name], guided=name == "controlnet")
    model = Model.from_pipeline(pipe, **call | SMALL)
    result = reconstruct(photo, model, PLAIN)
    assert result.square.size == (96, 64)
    assert result.latent_fidelity_db > 60
    path = tmp_path / "x.seed.safetensors"
    save_seed(result.seed, path)
    seed = load_seed(path)
    assert psnr(reconstruct(path, model).square, result.square) > 50
    with quiet():
        theirs = pipe(**model.call(seed)).images[0]
    assert psnr(theirs, result.square) > 50
    checked = verify(path, photo, model)
    assert checked.latent_fidelity_db > 60
    assert psnr(checked.picture, theirs) > 50


def test_what_is_asked_of_the_pipeline_beside_the_solver_does_not_count(photo):
    pipe, call = make(CLASSIC["sd"])
    model = Model.from_pipeline(pipe, **call | SMALL)
    first, again = (reconstruct(photo, model, PLAIN).inversion for _ in range(2))
    assert first.evaluations == again.evaluations
    assert first.evaluations_per_step * first.steps == first.evaluations


@pytest.mark.parametrize("name", ["sd", "flux dev"])
def test_a_swap_of_prompts_and_pictures_around_a_photo(name, photo):
    pipe, call = make(CLASSIC[name], guided=False)
    model = Model.from_pipeline(pipe, **call | SMALL)
    swap = EditSettings(to="a pear", mode="swap", guidance_scale=1.0)
    [edited] = edit(photo, model, swap, PLAIN).edits
    assert 0 < edited.change_db < 100
    [imagined] = imagine([photo], model, PLAIN, Imagining(count=1))
    assert np.isfinite(np.asarray(imagined.picture)).all()
    assert imagined.seed.header["guidance_scale"] == call["guidance_scale"]


def test_a_checkpoint_of_a_class_without_an_adapter(photo, tmp_path):
    parts = make(CLASSIC["sd"])[0].components
    pipe = StableDiffusionPAGPipeline(**parts, requires_safety_checker=False)
    pipe.save_pretrained(tmp_path / "pag", safe_serialization=True)
    model = load_model(str(tmp_path / "pag"))
    settings = Settings(boost=False, rtol=1e-4, size="96x64", num_inference_steps=6, prompt="an apple")
    result = reconstruct(photo, model, settings)
    save_seed(result.seed, tmp_path / "x.seed.safetensors")
    checked = verify(tmp_path / "x.seed.safetensors", photo, load_model(str(tmp_path / "pag")))
    assert checked.latent_fidelity_db > 60
    assert psnr(checked.picture, result.square) > 50
