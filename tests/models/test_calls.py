"""The product's words in a pipeline's own, and prompts that are too long."""

import copy
from dataclasses import replace

import pytest
import torch

from invrecon.errors import ModelError, UsageError
from invrecon.models.probing import PipelineModel
from invrecon.models.probing.conventions import completed, conventions, translated
from invrecon.models.probing.prompts import check_prompts
from invrecon.models.quiet import quiet
from invrecon.settings import Recipe
from tests.models.classic import CLASSIC, euler
from tests.models.conditioned import CONDITIONED
from tests.models.pipelines import NEW, make
from tests.models.roundtrip import there_and_back

RECIPE = Recipe("an apple", num_inference_steps=20, guidance_scale=3.0, width=64, height=64)


@pytest.mark.parametrize(
    ("name", "guidance", "value", "weight"),
    [
        ("sd", "guidance_scale", 3, 3),
        ("qwen", "true_cfg_scale", 3, 3),
        ("z-image", "guidance_scale", 3, 4),
        ("flux.2", "guidance_scale", 3, 1),
        ("krea 2", "guidance_scale", 3, 4),
    ],
)
def test_a_recipe_in_the_pipeline_s_own_words(name, guidance, value, weight):
    pipe, _ = make((NEW | CONDITIONED)[name])
    call = completed(pipe, translated(pipe, RECIPE))
    assert call[guidance] == value
    assert (call["height"], call["width"], call["num_inference_steps"]) == (64, 64, 20)
    assert call.get("negative_prompt", "") == (" " if name == "qwen" else "")
    assert conventions(pipe).weight(value) == weight


def test_a_negative_prompt_where_there_is_none():
    pipe, _ = make(NEW["flux.2"])
    with pytest.raises(UsageError, match="Flux2Pipeline takes no negative prompt: leave it out"):
        translated(pipe, replace(RECIPE, negative_prompt="blue"))


def test_an_lcm_is_told_its_guidance():
    assert conventions(make(CLASSIC["lcm"])[0]).told
    assert not conventions(make(CLASSIC["sd"])[0]).told


@pytest.mark.parametrize(("name", "tokens"), [("sd", 77), ("flux dev", 512), ("sd 3", 256)])
def test_a_prompt_that_is_too_long_is_refused_and_cut_as_told_it_is_not(name, tokens):
    pipe, call = make(CLASSIC[name])
    with pytest.raises(UsageError, match="end it after") as caught:
        PipelineModel.from_pipeline(pipe, **call | {"prompt": "apple " * 600})
    assert "the text encoder takes" in str(caught.value)
    kept = tokens - 77 + 10
    PipelineModel.from_pipeline(pipe, **call | {"prompt": "a " * kept})


def test_the_negative_prompt_s_length_and_every_tokenizer_s_learnt_words_count():
    pipe, call = make(CLASSIC["sdxl"])
    too_long = call | {"negative_prompt": "a " * 200}
    with pytest.raises(UsageError, match="the negative prompt has 200 tokens"):
        PipelineModel.from_pipeline(pipe, **too_long)
    pipe.tokenizer_2 = copy.deepcopy(pipe.tokenizer)
    with quiet():
        pipe.load_textual_inversion(
            {"<toy>": torch.randn(3, 32)}, tokenizer=pipe.tokenizer_2, text_encoder=pipe.text_encoder_2
        )
    room = pipe.tokenizer.model_max_length - 2
    check_prompts(pipe, {"prompt": "a " * (room - 3) + "<toy>"})
    with pytest.raises(UsageError, match=f"the prompt has {room + 1} tokens"):
        check_prompts(pipe, {"prompt": "a " * (room - 2) + "<toy>"})


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_few_steps_of_a_turbo_model(steps):
    pipe, call = make(CLASSIC["turbo"])
    model = PipelineModel.from_pipeline(pipe, **call | {"num_inference_steps": steps})
    decibels, _, _ = there_and_back(pipe, model, max_evaluations=100)
    assert decibels > 60


def test_another_scheduler_and_other_arguments_than_those_of_the_model():
    pipe, call = make(CLASSIC["sd"])
    model = PipelineModel.from_pipeline(pipe, **call)
    denoiser, schedule = model.denoiser_and_schedule(euler(), num_inference_steps=6, guidance_scale=1.0)
    own, ddim = model.denoiser_and_schedule()
    assert len(schedule) == 6
    assert len(ddim) == 10
    assert denoiser.guidance_scale == 1.0
    assert own.guidance_scale == 7.5
    assert type(pipe.scheduler).__name__ == "DDIMScheduler"
    assert schedule.scales[0] < 1 == ddim.scales[0]


def test_a_network_that_cannot_be_compiled_is_told_in_one_line():
    def broken(*_):
        raise RuntimeError("no such operation")

    pipe, call = make(NEW["auraflow"])
    torch.compiler.reset()
    pipe.transformer.compile(backend=broken)
    with pytest.raises(ModelError, match="leave out --compile") as caught:
        PipelineModel.from_pipeline(pipe, **call)
    assert "\n" not in str(caught.value)
