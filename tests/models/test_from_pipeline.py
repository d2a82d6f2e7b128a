"""A live pipeline as a `Model`: its call's arguments against the settings, and what a seed notes of them."""

from dataclasses import replace

import diffusers
import pytest
import torch

from invrecon import Model, Settings
from invrecon.errors import InputError, ModelError, UsageError
from invrecon.pipeline.header import sampling_header
from invrecon.seedfile import Seed
from tests.models.classic import CLASSIC
from tests.models.conditioned import CONDITIONED
from tests.models.pipelines import NEW, make

SMALL = {"height": 64, "width": 96, "num_inference_steps": 6}


def model_of(entry, **changes):
    pipe, call = make(entry)
    return pipe, Model.from_pipeline(pipe, **call | SMALL | changes)


def test_the_call_wins_over_defaults_in_the_settings_terms():
    _, model = model_of(NEW["z-image"])
    settings = model.settled(Settings())
    assert (settings.size, settings.num_inference_steps) == ("96x64", 6)
    assert settings.guidance_scale == 5.0  # as the pipeline takes it
    assert model.denoiser(settings.recipe(96, 64)).weight == 6.0  # of  neg + w (pos - neg)
    assert settings.sampler == "euler"
    assert model.settled(settings) == settings


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"num_inference_steps": 9}, "num_inference_steps 9 contradicts.*num_inference_steps=6"),
        ({"guidance_scale": 3.0}, r"guidance_scale 3.0 contradicts.*guidance_scale=7.5"),
        ({"size": 128}, "size 128 contradicts.*size 96x64"),
        ({"prompt": "a cat"}, "prompt 'a cat' contradicts.*prompt_embeds"),
        ({"sampler": "euler"}, "sampler 'euler' contradicts.*DDIMScheduler"),
        ({"dtype": "float16"}, "dtype 'float16' contradicts.*float32"),
        ({"auto_guidance": True, "prompt": "x"}, "contradicts"),
    ],
)
def test_a_setting_that_contradicts_the_call_is_refused_and_both_are_named(setting, said):
    _, model = model_of(CONDITIONED["sd"], guidance_scale=7.5)
    with pytest.raises(UsageError, match=said):
        model.settled(Settings(**setting))


def test_one_side_alone_is_no_size():
    pipe, call = make(CONDITIONED["sd"])
    del call["width"]
    with pytest.raises(UsageError, match="give height and width"):
        Model.from_pipeline(pipe, **call)


def test_a_scheduler_that_draws_noise_names_the_replacement():
    pipe, call = make(CLASSIC["sd"])
    pipe.scheduler = diffusers.LCMScheduler.from_config(pipe.scheduler.config)
    with pytest.raises(ModelError, match=r"pipe\.scheduler = DDIMScheduler\.from_config"):
        Model.from_pipeline(pipe, **call)
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
    Model.from_pipeline(pipe, **call)


def test_another_prompt_replaces_the_prompt_s_arguments_alone():
    _, model = model_of(CLASSIC["sd"], prompt="an apple")
    recipe = model.settled(Settings()).recipe(96, 64)
    changed = model._call.under(replace(recipe, prompt="a pear"))
    same = model._call.under(recipe)
    assert {name for name in changed if changed[name] != same.get(name)} == {"prompt"}


def test_a_prompt_without_a_text_encoder_is_refused():
    _, model = model_of(CONDITIONED["sd"])
    with pytest.raises(UsageError, match="no text encoder for the prompt 'a cat': leave it out"):
        model.check_prompts("a cat", "")


def test_a_seed_of_other_weights_arguments_or_scheduler_is_refused():
    pipe, model = model_of(CONDITIONED["controlnet"])
    recipe = model.settled(Settings()).recipe(96, 64)
    header = sampling_header(model, recipe, model.schedule(recipe))
    seed = Seed(torch.randn(1, 4, 32, 48), torch.randn(1, 4, 32, 48), header)
    assert set(model.call(seed)) > {"image", "latents", "control_guidance_end"}
    assert set(header["arguments"]["image"]) == {"sha256"}
    _, call = make(CONDITIONED["controlnet"])
    other = Model.from_pipeline(pipe, **call | SMALL | {"image": torch.rand(1, 3, 32, 32)})
    with pytest.raises(InputError, match=r"made with image one .*, and the model has one .* now: set it"):
        other.call(seed)
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing")
    with pytest.raises(InputError, match=r"timestep_spacing leading, and the model has trailing now"):
        model.call(seed)
    with torch.no_grad():
        next(pipe.unet.parameters()).add_(1)
    with pytest.raises(InputError, match=r"other weights .* in unet"):
        Model.from_pipeline(pipe, **call | SMALL).call(seed)
