"""Speed: its command works, and nothing is computed twice or the slow way."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from typer.testing import CliRunner

from invrecon import Settings, invert
from invrecon.cli.app import app
from invrecon.core.sampling import ddim_inversion
from invrecon.models import load_model, shapes, stock
from tests.checkpoints import save, stable_diffusion, stable_diffusion_3


@pytest.fixture
def folder(mini, tmp_path):
    return str(save(tmp_path / "sd", stable_diffusion, mini.pipeline.tokenizer))


def lines(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_the_command_reports_all_batches_in_sane_figures(folder, photo):
    arguments = [
        "speed",
        str(photo),
        "--model",
        folder,
        "--size",
        "64",
        "--steps",
        "3",
        "--repeats",
        "1",
        "--device",
        "cpu",
        "--json",
    ]
    result = CliRunner().invoke(app, [*arguments, "--batch-sizes", "1,3"])
    assert result.exit_code == 0, result.output
    rows = lines(result)
    ways = [("floor", None), ("DDIM", None), ("LBO", 1e-3), ("LBO", 1.8e-3)]
    assert [(row["batch"], row["method"], row["rtol"]) for row in rows] == [
        (batch, *way) for batch in (1, 3) for way in ways
    ]
    for row in rows:
        assert all(
            row[name] > 0
            for name in ("seconds", "photos_per_second", "to_ddim", "to_floor", "evaluations_per_step")
        )
        assert (row["overhead"] is not None) == (row["method"] == "LBO")
        assert row["overhead"] is None or 0 < row["overhead"] < 1
        assert (row["tflops"] or 0) >= 0
        assert (row["steps"], row["size"], row["compiled"], row["dtype"]) == (3, 64, False, "float32")
    assert all(row["tflops"] > 0 and row["product_share"] > 0 for row in rows if row["method"] == "floor")


def test_the_table_has_a_line_for_each_way_without_any_photo(folder):
    result = CliRunner().invoke(
        app, ["speed", "--model", folder, "--size", "64", "--steps", "2", "--repeats", "1", "--device", "cpu"]
    )
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.stdout.splitlines()][-4:] == ["floor", "DDIM", "LBO", "LBO"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--batch-sizes", "1,x"], 2, "whole numbers with commas between"),
        (["--batch-sizes", "0"], 2, "at least one photo"),
        (["nosuch.png"], 1, "nosuch.png: can't be used (No such file or directory)"),
        (["--shape", "sd99"], 2, "no shape 'sd99': there are sd15, sd21"),
        (["--compile", "--offload", "model"], 2, "leave out --compile or --offload"),
    ],
)
def test_wrong_usage_is_told_in_a_line(arguments, code, said):
    result = CliRunner().invoke(app, ["speed", "--size", "64", "--steps", "1", *arguments])
    assert result.exit_code == code
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_model_of_flow_matching_is_refused(mini, tmp_path):
    folder = save(tmp_path / "sd3", stable_diffusion_3, mini.pipeline.tokenizer)
    result = CliRunner().invoke(
        app, ["speed", "--model", str(folder), "--size", "64", "--steps", "1", "--device", "cpu"]
    )
    assert result.exit_code == 2
    assert "flow matching" in result.stderr


def test_a_machine_without_a_compiler_is_told_so_in_a_line(folder, tmp_path):
    command = [
        sys.executable,
        "-m",
        "invrecon",
        "speed",
        "--model",
        folder,
        "--size",
        "64",
        "--steps",
        "1",
        "--device",
        "cpu",
        "--compile",
    ]
    environment = os.environ | {
        "CXX": str(tmp_path / "nosuch"),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(
        "invrecon: torch can't compile the network here (InvalidCxxCompiler: No working C++ compiler found"
    )
    assert done.stderr.endswith("leave out --compile\n")
    assert done.stderr.count("\n") == 1


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
