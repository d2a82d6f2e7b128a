"""One call of a pipeline is one evaluation: at the true step, under the user's arguments, and nothing of the
user's is changed."""

import copy

import pytest
import torch

from invrecon.errors import ModelError
from invrecon.models import load_model
from invrecon.models.probing import PipelineModel
from invrecon.models.probing.affine import read_affine
from invrecon.models.probing.memo import memoised
from invrecon.models.quiet import quiet
from invrecon.settings import Recipe
from tests.models.classic import CLASSIC
from tests.models.conditioned import CONDITIONED
from tests.models.pipelines import NEW, make
from tests.models.roundtrip import fidelity

ALL = CLASSIC | NEW | CONDITIONED
SINGLY = ("chroma", "lumina 2")  # whose embeddings, given by the user, aren't repeated for more pictures


def problem(name, guided=True, **changes):
    pipe, call = make(ALL[name], guided)
    model = PipelineModel.from_pipeline(pipe, **call | changes)
    return pipe, model, *model.denoiser_and_schedule()


def noise(denoiser, batch=1):
    return torch.randn(batch, *denoiser.forms.shape, generator=torch.Generator().manual_seed(0))


def trajectory(pipe, model, seed):
    """What the stock call's scheduler is given: [(prediction, timestep, latents)]."""
    seen, step, call = [], pipe.scheduler.step, model.call(seed)

    def watch(output, t, latents, *args, **options):
        seen.append((output.clone(), float(t), latents.clone()))
        return step(output, t, latents, *args, **options)

    pipe.scheduler.step = watch
    try:
        with quiet():
            pipe(**call, output_type="latent")
    finally:
        del pipe.scheduler.step
    return seen


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("controlnet", {}),
        ("controlnet", {"control_guidance_start": 0.3, "control_guidance_end": 0.8}),
        ("lumina 2", {"cfg_trunc_ratio": 0.5}),
        (
            "sd 3",
            {"skip_guidance_layers": [0], "skip_layer_guidance_start": 0.2, "skip_layer_guidance_stop": 0.5},
        ),
        ("z-image", {"cfg_truncation": 0.5, "cfg_normalization": True}),
        ("sdxl", {"guidance_rescale": 0.7}),
        ("flux.2", {}),
        ("sd dpm++", {}),
    ],
)
def test_every_step_is_predicted_as_in_the_stock_loop(name, changes):
    pipe, model, denoiser, schedule = problem(name, **changes)
    scales = denoiser.input_scales
    with torch.no_grad():
        for k, (output, t, latents) in enumerate(trajectory(pipe, model, noise(denoiser))):
            assert t == schedule.timesteps[k]
            ours = denoiser(denoiser.forms.from_loop(latents) * scales[k], t)
            torch.testing.assert_close(ours, denoiser.forms.from_loop(output), rtol=1e-4, atol=1e-5)


def test_controlnet_is_heard_until_its_guidance_ends():
    _, _, denoiser, schedule = problem("controlnet")
    deaf = denoiser.given(controlnet_conditioning_scale=0.0)
    with torch.no_grad():
        heard = [
            not torch.equal(denoiser(noise(denoiser), t), deaf(noise(denoiser), t))
            for t in schedule.timesteps
        ]
    assert heard == [True] * 5 + [False] * 5


@pytest.mark.parametrize("name", [name for name in ALL if "sd " not in name and name != "kolors"])
def test_a_batch_is_predicted_as_its_samples_alone(name):
    _, _, denoiser, schedule = problem(name)
    latents, t = noise(denoiser, 3), schedule.timesteps[4]
    with torch.no_grad():
        together = denoiser(latents, t)
        torch.testing.assert_close(
            together, torch.cat([denoiser(one, t) for one in latents.split(1)]), rtol=1e-4, atol=1e-5
        )
    assert denoiser._batched is (name not in SINGLY)


@pytest.mark.parametrize("name", ["sd", "sd euler", "qwen", "flux.2"])
def test_gradients_flow_to_latents_and_to_the_negative_prompt(name):
    _, _, denoiser, schedule = problem(name)
    latents, t = noise(denoiser).requires_grad_(), schedule.timesteps[4]
    denoiser(latents, t).square().sum().backward()
    with torch.no_grad():
        ahead, back = (
            denoiser(latents + sign * 1e-2 * latents.grad / latents.grad.norm(), t).square().sum()
            for sign in (1, -1)
        )
    torch.testing.assert_close((ahead - back) / 2e-2, latents.grad.norm(), rtol=0.02, atol=0)
    if name == "qwen":
        negative = denoiser.runner.call["negative_prompt_embeds"].clone().requires_grad_()
        denoiser.given(negative_prompt_embeds=negative)(latents.detach(), t).square().sum().backward()
        assert negative.grad.norm() > 0


@pytest.mark.parametrize("name", ["sd", "sdxl", "sd 3"])
def test_guidance_is_made_of_the_prompt_and_of_the_negative_prompt_each_alone(name):
    pipe, call = make(CLASSIC[name])
    denoiser, schedule = PipelineModel.from_pipeline(pipe, **call).denoiser_and_schedule()
    latents, t = noise(denoiser), schedule.timesteps[4]
    learnt = denoiser.negative.clone().requires_grad_()
    negative = denoiser.under(learnt)(latents, t)
    (slope,) = torch.autograd.grad(negative.square().sum(), learnt)
    with torch.no_grad():
        positive, mixed = denoiser.unguided()(latents, t), denoiser(latents, t)
    assert slope.norm() > 0
    torch.testing.assert_close(
        negative.detach() + denoiser.weight * (positive - negative.detach()), mixed, rtol=1e-3, atol=1e-4
    )


def test_between_the_steps_the_network_is_told_the_timestep_itself():
    mini = load_model("mini", device="cpu")
    model = PipelineModel.from_pipeline(
        mini.pipeline, prompt="a red apple", num_inference_steps=5, height=64, width=64, guidance_scale=2.0
    )
    denoiser, _ = model.denoiser_and_schedule()
    recipe = Recipe("a red apple", num_inference_steps=5, guidance_scale=2.0, width=64, height=64)
    latents, direct = noise(denoiser), mini.denoiser(recipe)
    with torch.no_grad():
        for t in (1, 500, 801, 999):
            torch.testing.assert_close(denoiser(latents, t), direct(latents, t), rtol=1e-4, atol=1e-5)


def test_prompts_are_encoded_once_a_run():
    pipe, call = make(CLASSIC["sd 3"])
    calls = []
    for encoder in (pipe.text_encoder, pipe.text_encoder_2, pipe.text_encoder_3):
        encoder.register_forward_hook(lambda *_: calls.append(1))
    denoiser, schedule = PipelineModel(pipe, call).denoiser_and_schedule()
    once = len(calls)
    with torch.no_grad():
        for t in schedule.timesteps:
            denoiser(noise(denoiser), t)
    assert len(calls) == once


@pytest.mark.parametrize("name", ["sd euler", "pag", "flux.2"])
def test_nothing_of_the_user_s_is_changed_even_where_the_network_fails(name):
    pipe, model, denoiser, schedule = problem(name)
    before, state, config = dict(vars(pipe)), torch.get_rng_state(), copy.deepcopy(dict(pipe.config))
    scheduler, vae = copy.deepcopy(vars(pipe.scheduler)), dict(vars(pipe.vae))
    network = pipe.components.get("unet") or pipe.transformer

    def fail(*_):
        raise RuntimeError("out of order")

    hook = network.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="out of order"), torch.no_grad():
        denoiser(noise(denoiser), schedule.timesteps[0])
    with pytest.raises(ModelError, match="out of order"):
        PipelineModel.from_pipeline(pipe, **model.arguments)
    hook.remove()
    assert all(vars(pipe)[part] is value for part, value in before.items())
    assert vars(pipe).keys() == before.keys()
    assert dict(pipe.config) == config
    assert vars(pipe.vae).keys() == vae.keys()
    assert vars(pipe.scheduler).keys() == scheduler.keys()
    assert type(pipe.scheduler).__module__.startswith("diffusers")
    assert torch.equal(torch.get_rng_state(), state)


def test_a_generator_of_the_user_s_starts_over_at_each_call():
    generator = torch.Generator().manual_seed(7)
    pipe, model, denoiser, schedule = problem("sd", generator=generator)
    state = generator.get_state()
    with torch.no_grad():
        denoiser(noise(denoiser), schedule.timesteps[0])
    pipe(**model.call(noise(denoiser)), output_type="latent")
    assert torch.equal(generator.get_state(), state)


@pytest.mark.parametrize("name", ["sd", "qwen", "flux.2"])
def test_half_precision_keeps_float32_latents_and_maps(name):
    pipe, call = make(ALL[name])
    exact = PipelineModel.from_pipeline(pipe, **call)
    denoiser, schedule = exact.denoiser_and_schedule()
    latents = noise(denoiser)
    pixels = exact.decode(latents)
    with torch.no_grad():
        prediction = denoiser(latents, schedule.timesteps[4])
    half = pipe.to(torch.bfloat16)
    call = {
        key: value.bfloat16() if getattr(value, "is_floating_point", bool)() else value
        for key, value in call.items()
    }
    model = PipelineModel.from_pipeline(half, **call)
    rough, _ = model.denoiser_and_schedule()
    assert rough.rounding > 1e-3
    assert fidelity(pixels, model.decode(latents)) > 30
    with torch.no_grad():
        told = rough(latents, schedule.timesteps[4])
    assert told.dtype == torch.float32
    assert fidelity(prediction, told) > 25
    assert pipe.vae.dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["sd", "controlnet", "qwen"])
def test_a_half_precision_network_that_overflows_is_asked_again_in_float32(name):
    pipe, call = make(ALL[name], guided=False)
    network = pipe.components.get("unet") or pipe.transformer
    first = network.conv_in if hasattr(network, "conv_in") else network.img_in
    pipe.to(torch.bfloat16)
    call = {
        key: value.bfloat16() if getattr(value, "is_floating_point", bool)() else value
        for key, value in call.items()
    }
    denoiser, schedule = PipelineModel.from_pipeline(pipe, **call).denoiser_and_schedule()
    t = schedule.timesteps[2]
    with torch.no_grad():
        whole = denoiser(noise(denoiser), t)
        first.register_forward_hook(
            lambda module, inputs, output: output * float("nan") if output.dtype == torch.bfloat16 else output
        )
        rescued = denoiser(noise(denoiser), t)
    assert fidelity(whole, rescued) > 25
    assert denoiser.rescued == {t}
    assert network.dtype == torch.bfloat16


def test_affine_permutations_are_read_and_others_refused():
    like, gain = torch.zeros(1, 3, 4, 6), torch.rand(6, 12) + 0.5
    read = read_affine(lambda x: x.reshape(-1, 6, 12).flip(1) * gain - 0.3, like)
    x = torch.randn(5, 3, 4, 6, requires_grad=True)
    torch.testing.assert_close(read(x), x.reshape(-1, 6, 12).flip(1) * gain - 0.3)
    torch.testing.assert_close(read.undo(read(x)), x)
    torch.testing.assert_close(read.unpermute(read.permute(x)), x, rtol=0, atol=0)
    read(x).sum().backward()
    assert x.grad.shape == x.shape
    for function, words in (
        (lambda x: x.clamp(-1, 1), "permutation|mixed|affine"),
        (lambda x: x.roll(1, 1) + x, "mixed"),
        (lambda x: x[:, :2], "same values"),
    ):
        with pytest.raises(ValueError, match=words):
            read_affine(function, like)


def test_what_is_memoised_is_found_by_its_arguments_and_never_stale():
    calls = []

    def double(x, scale=2):
        calls.append(1)
        return [x * scale]

    call, x = memoised(double), torch.ones(3)
    assert call(x)[0] is call(x)[0]
    assert len(calls) == 1
    call(x, scale=3)
    call(x.clone())
    assert len(calls) == 3
    x += 1
    assert torch.equal(call(x)[0], 2 * x)
    call(x)[0].mul_(0)
    call(x).append(None)
    assert len(call(x)) == 1
    assert torch.equal(call(x)[0], 2 * x)
    y = torch.ones(3, requires_grad=True)
    assert call(y)[0].requires_grad
