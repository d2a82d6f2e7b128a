"""A checkpoint that lacks weights is refused before any work: the libraries would draw them at random."""

import shutil

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file
from typer.testing import CliRunner

from invrecon.cli.app import app
from invrecon.models import load_model
from invrecon.models.quiet import quiet
from tests import checkpoints, loras
from tests.models.weights import configure, copy, refused, renamed, rewrite, with_lora, without
from tests.single_file import save_single_file


@pytest.fixture(scope="module")
def folder(mini, tmp_path_factory):
    return checkpoints.save(
        tmp_path_factory.mktemp("sd"), checkpoints.stable_diffusion, mini.pipeline.tokenizer
    )


CUTS = {"unet": "mid_block", "vae": "encoder.mid_block", "text_encoder": "layers.1."}


@pytest.mark.parametrize("part", CUTS)
def test_missing_weights_are_counted_and_named(folder, tmp_path, part):
    path = copy(folder, tmp_path / "m")
    whole = len(load_file(next((path / part).glob("*.safetensors"))))
    left = len(load_file(rewrite(path / part, without(CUTS[part]))))
    said = refused(path)
    assert f"its {part} lacks {whole - left} of its {whole} weights" in said
    assert CUTS[part] in said
    assert "isn't whole" in said


@pytest.mark.parametrize("part", CUTS)
def test_missing_weights_of_a_variant_and_of_a_single_file(folder, mini, tmp_path, part):
    path = checkpoints.save(
        tmp_path / "v", checkpoints.stable_diffusion, mini.pipeline.tokenizer, variant="fp16"
    )
    assert load_model(str(path), device="cpu", variant="fp16").fingerprint
    rewrite(path / part, without(CUTS[part]))
    assert f"its {part} lacks" in refused(path, variant="fp16")

    single = save_single_file(load_model(str(folder), device="cpu").pipeline, tmp_path / "s.safetensors")
    cut = {"unet": "middle_block.1", "vae": "encoder.mid.attn", "text_encoder": "layers.1."}[part]
    rewrite(single, without(cut))
    assert f"its {part} lacks" in refused(single, base=str(folder))


def test_the_likely_cause_is_told(folder, tmp_path):
    path = copy(folder, tmp_path / "lora")
    rewrite(path / "unet", with_lora)
    assert "a LoRA still in it" in (said := refused(path))
    assert "fuse_lora" in said
    path = copy(folder, tmp_path / "prefix")
    rewrite(path / "unet", lambda weights: {f"module.{name}": value for name, value in weights.items()})
    assert "another prefix (module.conv_in.bias)" in refused(path)
    path = copy(folder, tmp_path / "text")
    rewrite(path / "text_encoder", renamed("layers.", "blocks."))
    assert "its text_encoder lacks 32 of" in refused(path)


def test_a_lora_that_is_still_in_it_can_be_merged_by_the_cure(folder, tmp_path):
    """As the error says it: fuse_lora(), unload_lora_weights(), save_pretrained(folder)."""
    torch.manual_seed(1)
    with quiet():
        pipe = StableDiffusionPipeline.from_pretrained(folder)
        changes = loras.kohya(pipe, tmp_path / "x.safetensors", ["unet"])
        pipe.load_lora_weights(str(tmp_path / "x.safetensors"))
        pipe.save_pretrained(tmp_path / "in")
        assert "call fuse_lora() and unload_lora_weights() in diffusers, then save_pretrained(folder)" in (
            refused(tmp_path / "in")
        )
        pipe.fuse_lora()
        pipe.unload_lora_weights()
        pipe.save_pretrained(tmp_path / "cured")
        loras.merge(fresh := StableDiffusionPipeline.from_pretrained(folder), changes, 1.0)
    cured = load_model(str(tmp_path / "cured"), device="cpu").pipeline
    ours, wanted = cured.unet.state_dict(), fresh.unet.state_dict()
    assert ours.keys() == wanted.keys()
    assert all(torch.allclose(ours[name], wanted[name], atol=1e-5) for name in wanted)


def test_a_lora_beside_whole_weights_is_not_dropped_in_silence(folder, tmp_path):
    path = copy(folder, tmp_path / "beside")
    rewrite(
        path / "unet",
        lambda weights: weights | {"mid_block.attn1.processor.to_q_lora.down.weight": torch.zeros(4)},
    )
    assert "LoRA" in refused(path)


def test_names_that_are_no_parameter_s_do_no_harm(folder, tmp_path):
    """Buffers that older libraries saved, and names that the libraries themselves read."""
    path = copy(folder, tmp_path / "m")
    rewrite(
        path / "text_encoder",
        lambda weights: weights | {"text_model.embeddings.position_ids": torch.arange(32)[None]},
    )
    rewrite(path / "text_encoder", lambda w: {name.removeprefix("text_model."): w[name] for name in w})
    rewrite(path / "vae", renamed("mid_block.attentions.0.to_q", "mid_block.attentions.0.query"))
    ours, theirs = (load_model(str(each), device="cpu") for each in (path, folder))
    for part in ("unet", "vae", "text_encoder"):
        pairs = zip(*(getattr(m.pipeline, part).state_dict().values() for m in (ours, theirs)), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs), part


def test_a_shape_that_is_not_the_configuration_s_is_told_by_its_name(folder, tmp_path):
    for part, change in (
        ("unet", {"block_out_channels": [16, 24]}),
        ("text_encoder", {"intermediate_size": 41}),
    ):
        path = copy(folder, tmp_path / part)
        configure(path / part / "config.json", **change)
        said = refused(path)
        assert part in said
        assert "weight" in said or "bias" in said


@pytest.mark.parametrize(
    ("part", "changes", "name"),
    [
        ("vae", {"mid_block_add_attention": False}, "decoder.mid_block.attentions.0.group_norm.bias"),
        ("vae", {"down_block_types": ["DownEncoderBlock2D"] * 3}, "encoder.down_blocks.3"),
        ("unet", {"mid_block_type": "UNetMidBlock2D"}, "mid_block.attentions.0"),
    ],
)
def test_weights_that_a_configuration_has_no_place_for_are_not_left_out_in_silence(
    folder, tmp_path, part, changes, name
):
    path = copy(folder, tmp_path / "m")
    configure(path / part / "config.json", **changes)
    said = refused(path)
    assert f"its {part} has no place for" in said
    assert f"({name}" in said
    assert "config.json is of another architecture" in said


def test_every_family_is_still_whole(mini, tmp_path):
    for name, make in checkpoints.FAMILIES.items():
        path = checkpoints.save(tmp_path / name, make, mini.pipeline.tokenizer)
        assert load_model(str(path), device="cpu").latent_channels, name


def test_the_command_says_it_in_one_line_and_exits_with_2(folder, tmp_path):
    path = copy(folder, tmp_path / "m")
    rewrite(path / "text_encoder", without("layers.1."))
    checked = CliRunner().invoke(app, ["models", "check", str(path)])
    assert (checked.exit_code, checked.stdout, checked.stderr.count("\n")) == (2, "", 1)
    assert "lacks 16 of its 36 weights" in checked.stderr
    shutil.rmtree(path)
