"""Speed: that the report's arithmetic is right, that its command works, and that nothing is computed twice or the slow way."""

from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from torch.nn.functional import scaled_dot_product_attention

from invrecon import Settings, invert
from invrecon.audit.bench import Bench, Way, count_operations
from invrecon.audit.speed import Round, Run, measure, summarise
from invrecon.core.sampling import ddim_inversion
from invrecon.core.schedule import Schedule
from invrecon.models import load_model, shapes, stock
from tests.checkpoints import save, stable_diffusion

SCHEDULE = Schedule([3, 2, 1], [1.0] * 3, [0.1] * 3)


class Hand:
    """A clock that stands still until it is moved on, and a denoiser that takes a second for each of its latents."""

    now = 0.0

    def __call__(self):
        return self.now

    def denoiser(self, latents, timestep):
        self.now += len(latents)
        return latents @ latents

    def product(self, clock):
        self.now += 7
        return 4.0, 800.0


@pytest.fixture
def folder(mini, tmp_path):
    return str(save(tmp_path / "sd", stable_diffusion, mini.pipeline.tokenizer))


def test_ratios_overhead_and_rates_follow_from_the_clock():
    hand = Hand()

    def slow(denoiser, latents):  # two evaluations a step, and a quarter of the time beside them
        for _ in range(6):
            denoiser(latents, 1)
        hand.now += 2 * len(latents)

    def plain(denoiser, latents):
        hand.now += 4 * len(latents)

    bench = Bench(
        hand.denoiser,
        SCHEDULE,
        torch.ones(2, 1, 4, 4),
        [Way("DDIM", None, plain), Way("LBO", 0.1, slow)],
        hand,
        hand.product,
    )
    floor, ddim, ours = list(measure(bench, [2], repeats=2))
    assert [floor.seconds, ddim.seconds, ours.seconds] == [6.0, 8.0, 16.0]
    assert [floor.to_floor, ddim.to_floor, ours.to_floor] == pytest.approx([1.0, 8 / 6, 16 / 6])
    assert [floor.to_ddim, ddim.to_ddim, ours.to_ddim] == pytest.approx([6 / 8, 1.0, 2.0])
    assert (ours.overhead, ours.evaluations_per_step, ours.photos_per_second) == pytest.approx(
        (0.25, 2.0, 2 / 16)
    )
    assert (ddim.overhead, floor.overhead, ours.spread) == (None, None, 0.0)
    operations = 2 * 2 * 4**3  # two products of 4 x 4
    assert (floor.tflops, floor.product_share) == pytest.approx((operations / 2 / 1e12, operations / 2 / 200))


def test_a_round_in_which_all_was_slow_changes_no_ratio():
    bench = Bench(None, SCHEDULE, None, [Way("DDIM", None, None), Way("LBO", 0.1, None)], None, None)
    rounds = [
        Round(pace, [Run(3 * pace, 0, 0, None), Run(9 * pace, 6 * pace, 6, 5.0)], 1 / pace)
        for pace in (1.0, 50.0, 2.0)
    ]
    floor, _, ours = summarise(bench, 1, rounds, operations=1.0)
    assert (ours.to_ddim, ours.to_floor, ours.overhead) == pytest.approx((3.0, 3.0, 1 / 3))
    assert floor.product_share == pytest.approx(1.0)
    assert (ours.seconds, ours.spread, ours.peak_bytes) == (18.0, 49 * 9 / 18, 5.0)


def test_operations_of_fused_attention_are_counted():
    heads = torch.randn(1, 2, 16, 8)
    assert count_operations(lambda z, t: scaled_dot_product_attention(z, z, z), heads, 1.0) == 2 * 2 * (
        2 * 16 * 16 * 8
    )


def test_a_compiled_network_predicts_the_same_and_is_compiled_once_for_all_timesteps(folder, monkeypatch):
    original = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **_: original(self, backend="eager"))
    plain, compiled = (
        load_model(folder, device="cpu").denoiser(),
        load_model(folder, device="cpu", compiled=True).denoiser(),
    )
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    counters = torch._dynamo.utils.counters["stats"]
    counters.clear()
    for timestep in (981, 501.0, 1.5):
        torch.testing.assert_close(compiled(latents, timestep), plain(latents, timestep))
    assert counters["unique_graphs"] == 1


def test_the_prompt_is_encoded_once_for_many_photos(folder, photo):
    model, runs = load_model(folder, device="cpu"), []
    model.pipeline.text_encoder.register_forward_hook(lambda *_: runs.append(1))
    settings = Settings(prompt="a red apple", size=64, num_inference_steps=2, boost=False)
    first, second = (invert(photo, model, settings) for _ in range(2))
    assert torch.equal(first.seed.latents, second.seed.latents)
    assert len(runs) == 2  # of the prompt and of the empty one
    invert(photo, model, replace(settings, prompt="a dog"))
    assert len(runs) == 4


def test_attention_is_the_fused_kind_but_while_it_is_watched(folder):
    model = load_model(folder, device="cpu")

    def kinds():
        return {type(processor) for processor in model.network.attn_processors.values()}

    assert kinds() == {AttnProcessor2_0}
    with model.watched():
        assert AttnProcessor2_0 not in kinds()
    assert kinds() == {AttnProcessor2_0}


def test_networks_lie_channels_last_and_predictions_do_not(folder):
    model = load_model(folder, device="cpu")
    for convolution in (model.network.conv_in, model.pipeline.vae.decoder.conv_in):
        assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
    pixels = torch.randn(2, 3, 64, 64)
    assert model.denoiser()(torch.randn(2, 4, 8, 8), 1.0).is_contiguous()
    assert model.encode(pixels).is_contiguous()
    assert model.decode(model.encode(pixels)).is_contiguous()


def test_diffusers_own_inversion_agrees_with_ours(folder):  # for networks that predict epsilon
    model = load_model(folder, device="cpu")
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    settings = Settings(prompt="a red apple", guidance_scale=2.0, num_inference_steps=4)
    ours = ddim_inversion(model.denoiser("a red apple", "", 2.0), model.schedule(4), latents)
    torch.testing.assert_close(stock.ddim_inversion(model, settings, latents), ours, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("shape", "parameters"), [("sd15", 859_520_964), ("sd21", 865_910_724)])
def test_shapes_have_the_published_number_of_parameters(shape, parameters):
    with torch.device("meta"):
        assert (
            sum(parameter.numel() for parameter in UNet2DConditionModel(**shapes.SHAPES[shape]).parameters())
            == parameters
        )


def test_a_random_model_is_the_same_each_time_and_leaves_the_generator_alone(monkeypatch):
    small = {
        "block_out_channels": (8, 8, 8, 8),
        "attention_head_dim": 2,
        "norm_num_groups": 4,
        "layers_per_block": 1,
    }
    monkeypatch.setitem(shapes.SHAPES, "sd15", shapes.SHAPES["sd15"] | small)
    torch.manual_seed(1)
    first, second = (shapes.random_model("sd15", "cpu", "bfloat16") for _ in range(2))
    after = torch.rand(())
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(()))
    assert torch.equal(first.network.conv_in.weight, second.network.conv_in.weight)
    assert (first.dtype, first.conditions("a dog")[0].shape) == (torch.bfloat16, (1, 77, 768))
    assert first.denoiser()(torch.randn(1, 4, 8, 8), 1.0).isfinite().all()
