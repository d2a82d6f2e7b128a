"""What has no eps(z, t), or no way back, is refused in one line that names the cure."""

import diffusers
import pytest
import torch
from diffusers import DDIMScheduler
from diffusers import FlowMatchEulerDiscreteScheduler as FlowMatch

from invrecon.errors import ModelError, UsageError
from invrecon.models.probing import PipelineModel
from invrecon.models.quiet import quiet
from tests import checkpoints
from tests.models.classic import CLASSIC
from tests.models.conditioned import CONDITIONED, hunyuan
from tests.models.pipelines import NEW, make

BETAS = {name: value for name, value in checkpoints.BETAS.items() if name != "steps_offset"}


def stable_diffusion(scheduler=None):
    pipe, call = make(CONDITIONED["sd"])
    pipe.scheduler = scheduler or pipe.scheduler
    return pipe, call


def refused(pipe, call, error=ModelError):
    with pytest.raises(error) as caught:
        PipelineModel.from_pipeline(pipe, **call)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "options", "instead"),
    [
        ("LCMScheduler", {}, "DDIMScheduler"),
        ("DDPMScheduler", {}, "DDIMScheduler"),
        ("EulerAncestralDiscreteScheduler", {}, "EulerDiscreteScheduler"),
        ("KDPM2AncestralDiscreteScheduler", {}, "DDIMScheduler"),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, "DDIMScheduler"),
    ],
)
def test_schedulers_that_draw_noise(name, options, instead):
    with quiet():
        scheduler = getattr(diffusers, name)(**BETAS, **options)
    pipe, call = stable_diffusion(scheduler)
    message = refused(pipe, call)
    assert "noise at every step" in message
    cure = f"pipe.scheduler = {instead}.from_config(pipe.scheduler.config)"
    assert cure in message
    with quiet():
        exec(cure, {"pipe": pipe, instead: getattr(diffusers, instead)})
        if pipe.scheduler.config.get("clip_sample"):
            pipe.scheduler.register_to_config(clip_sample=False)
        PipelineModel.from_pipeline(pipe, **call)


def test_noise_that_an_argument_asks_for():
    pipe, call = stable_diffusion()
    message = refused(pipe, call | {"eta": 0.5})
    assert "eta 0.5" in message
    assert "leave out eta" in message
    PipelineModel.from_pipeline(pipe, **call, eta=0.0)


def test_flow_matching_that_draws_noise():
    pipe, call = make(NEW["auraflow"])
    pipe.scheduler = FlowMatch(stochastic_sampling=True)
    assert "FlowMatchEulerDiscreteScheduler" in refused(pipe, call)


@pytest.mark.parametrize("options", [{"clip_sample": True}, {"thresholding": True, "clip_sample": False}])
def test_steps_that_lose_information(options):
    assert "aren't linear" in refused(*stable_diffusion(DDIMScheduler(**BETAS, **options)))


@pytest.mark.parametrize(
    "name", ["PNDMScheduler", "UniPCMultistepScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler"]
)
def test_schedulers_that_remember_more_than_one_step(name):
    with quiet():
        scheduler = getattr(diffusers, name)(**BETAS)
    message = refused(*stable_diffusion(scheduler))
    assert "DDIMScheduler.from_config" in message


@pytest.mark.parametrize("start", [0, 3])
def test_momentum_guidance(start):
    pipe, call = make((lambda: hunyuan(-0.5, start), 1.0, {}, {}))
    assert "momentum" in refused(pipe, call)


def test_text_encoders_that_drop_values_at_random():
    """T5 in training mode, as a pipeline made by hand has it; embeddings don't ask it."""
    pipe, call = make(CLASSIC["sd 3"])
    with torch.no_grad():
        prompt, negative, pooled, negative_pooled = pipe.encode_prompt("a", "a", "a")
    pipe.text_encoder_3.train()
    assert "otherwise at each call: call .eval() of its text encoders" in refused(pipe, call)
    given = {name: value for name, value in call.items() if "prompt" not in name}
    given |= {"prompt_embeds": prompt, "negative_prompt_embeds": negative}
    given |= {"pooled_prompt_embeds": pooled, "negative_pooled_prompt_embeds": negative_pooled}
    PipelineModel.from_pipeline(pipe, **given)
    pipe.text_encoder_3.eval()
    PipelineModel.from_pipeline(pipe, **call)


def test_a_cache_between_steps():
    from diffusers import FirstBlockCacheConfig

    pipe, call = make(NEW["qwen"])
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=10.0))
    assert "switch off" in refused(pipe, call)


def test_a_cache_that_the_first_step_fills():
    pipe, call = make(CONDITIONED["qwen 2.1"])
    assert "at one step alone" in refused(pipe, call | {"use_kv_cache": True})


def test_predictions_that_change_from_call_to_call():
    pipe, call = stable_diffusion()
    pipe.unet.conv_in.register_forward_hook(lambda module, inputs, output: output + torch.randn_like(output))
    assert "changes from call to call" in refused(pipe, call)


def test_pipelines_of_other_kinds():
    pipe, call = stable_diffusion()
    pipe.vae = None
    assert "has no vae" in refused(pipe, call)
    pipe = diffusers.StableDiffusionImg2ImgPipeline(
        **CONDITIONED["sd"][0]()[0].components, requires_safety_checker=False
    )
    assert "takes no latents=" in refused(pipe, {})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"true_cfg_scale": 2.0}, "no argument true_cfg_scale"),
        ({"latents": torch.zeros(1)}, "latents is set by invrecon"),
        ({"output_type": "pil"}, "output_type is set by invrecon"),
        ({"callback_on_step_end": print}, "callback_on_step_end may change latents"),
    ],
)
def test_arguments_that_cannot_be(change, words):
    pipe, call = stable_diffusion()
    assert words in refused(pipe, call | change, UsageError)


def test_modular_pipelines():
    with quiet():
        modular = diffusers.StableDiffusionXLModularPipeline()
    assert "modular pipeline" in refused(modular, {})


def test_arguments_that_the_pipeline_itself_refuses():
    pipe, call = stable_diffusion()
    assert "height" in refused(pipe, call | {"height": 33})
    assert "2 pictures" in refused(pipe, call | {"num_images_per_prompt": 2})
    pipe, call = make(NEW["hidream"])
    assert "makes 32 x 32 pixels of 64 x 64" in refused(pipe, call | {"height": 64, "width": 64}, UsageError)
