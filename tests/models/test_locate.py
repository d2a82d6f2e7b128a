"""What --model takes: cards, folders, single files, hub ids; and what it refuses."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel
from typer.testing import CliRunner

from invrecon import Settings, load_model, reconstruct
from invrecon.cli.app import app
from invrecon.errors import ModelError
from invrecon.metrics import psnr
from invrecon.models.cards import card_settings, cards
from invrecon.models.kinds import TITLES
from invrecon.models.locate import locate
from invrecon.settings import load_settings
from tests import checkpoints
from tests.models.weights import rewrite
from tests.single_file import save_single_file


@pytest.fixture(scope="module")
def folder(mini, tmp_path_factory):
    return checkpoints.save(
        tmp_path_factory.mktemp("sd"), checkpoints.stable_diffusion, mini.pipeline.tokenizer
    )


def refused(*arguments, **options):
    with pytest.raises(ModelError) as caught:
        load_model(*map(str, arguments), device="cpu", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_card_is_valid_and_says_where_it_is():
    titles = set(TITLES.values())
    for name, card in cards().items():
        assert isinstance(Settings(**card.settings), Settings), name
        assert card.family in titles
        assert card.prediction in ("epsilon", "v_prediction", "flow")
        assert card.memory == "not measured"
        assert bool(card.hub) != (name == "mini")


def test_a_card_s_settings_are_defaults_that_give_way_to_preset_and_options(tmp_path):
    assert load_settings(None, card_settings, model="sdxl-turbo").num_inference_steps == 4
    assert (
        load_settings(None, card_settings, model="sdxl-turbo", num_inference_steps=2).num_inference_steps == 2
    )
    preset = tmp_path / "x.toml"
    preset.write_text('model = "sdxl-turbo"\nnum_inference_steps = 3\n')
    chosen = load_settings(preset, card_settings)
    assert (chosen.num_inference_steps, chosen.sampler, chosen.variant) == (3, "euler", "fp16")
    assert load_settings(None, card_settings) == Settings()


def test_pickles_are_refused_in_one_line_that_says_how_to_convert(folder, tmp_path):
    for ending in ("ckpt", "bin", "pt", "pth", "CKPT"):
        path = tmp_path / f"model.{ending}"
        torch.save({}, path)
        assert "save_pretrained" in refused(path)
    pickled = shutil.copytree(folder, tmp_path / "pickled")
    for path in pickled.glob("unet/*.safetensors"):
        torch.save({}, path.with_suffix(".bin"))
        path.unlink()
    assert "unet" in (line := refused(pickled))
    assert "save_pretrained" in line


def test_code_of_a_checkpoint_s_own_is_never_run(folder, tmp_path):
    strange = shutil.copytree(folder, tmp_path / "strange")
    index = json.loads((strange / "model_index.json").read_text())
    (strange / "model_index.json").write_text(json.dumps(index | {"unet": ["mine", "Net"]}))
    (strange / "unet" / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Net: pass\n")
    assert "mine" in refused(strange)
    assert not (tmp_path / "ran").exists()


def test_a_single_file_with_a_folder_for_its_configuration(folder, photo, tmp_path):
    whole = load_model(str(folder), device="cpu")
    path = save_single_file(whole.pipeline, tmp_path / "single.safetensors")
    assert "--base" in refused(path)
    single = load_model(str(path), device="cpu", base=str(folder))
    settings = Settings(size=64, num_inference_steps=4, prompt="a red apple", boost=False)
    ours, theirs = (reconstruct(photo, model, settings) for model in (single, whole))
    assert psnr(ours.square, theirs.square) > 60
    assert (
        single.fingerprint != whole.fingerprint
    )  # other bytes, as far as anyone can tell without loading them
    shutil.copytree(folder, tmp_path / "single")
    assert (
        load_model(str(path), device="cpu").fingerprint == single.fingerprint
    )  # the folder of the same name lies beside it


@pytest.mark.parametrize("ending", ["SAFETENSORS", "sft"])
def test_a_single_file_may_have_another_ending_and_is_never_unpickled(folder, tmp_path, monkeypatch, ending):
    whole = load_model(str(folder), device="cpu")
    usual = save_single_file(whole.pipeline, tmp_path / "usual.safetensors")
    path = usual.rename(tmp_path / f"single.{ending}")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpickled"))
    single = load_model(str(path), device="cpu", base=str(folder))
    ours, theirs = (model.pipeline.unet.state_dict() for model in (single, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    path.write_bytes(pickle.dumps({}))
    assert refused(path, base=str(folder))


def test_variants_of_the_weights(folder, mini, tmp_path):
    both = shutil.copytree(folder, tmp_path / "both")
    with_variant = load_model(str(folder), device="cpu", dtype="bfloat16").pipeline
    with_variant.save_pretrained(both, variant="fp16")
    prints = {load_model(str(both), device="cpu", variant=variant).fingerprint for variant in ("", "fp16")}
    assert len(prints) == 2
    assert load_model(str(folder), device="cpu").fingerprint in prints
    assert "fp8" in refused(folder, variant="fp8")


def test_what_is_nowhere_and_what_is_no_checkpoint(tmp_path):
    assert "sdxl" in refused("nosuch")
    assert "name the folder that has one" in refused(tmp_path)
    (tmp_path / "x.txt").write_text("")
    assert "not a .safetensors file" in refused(tmp_path / "x.txt")
    assert "hub id" in refused("mini", revision="main")
    assert "needs CUDA" in refused("mini", offload="model")
    assert locate("mini").path.name == "mini"


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_part_alone_is_told_by_its_class(folder, part):
    """The cure is the folder itself, which all these tests load."""
    kind = json.loads((folder / "model_index.json").read_text())[part][1]
    assert f"holds a {kind} alone, a part of a checkpoint: name the folder" in refused(folder / part)


def test_a_controlnet_alone_is_steered_to_a_live_pipeline(folder, tmp_path):
    """What is told there is done in test_pipeline_families.py."""
    network = load_model(str(folder), device="cpu").pipeline.unet
    ControlNetModel.from_unet(network).save_pretrained(tmp_path / "c")
    for path in (tmp_path / "c", *(tmp_path / "c").glob("*.safetensors")):
        said = refused(path)
        assert "ControlNet" in said
        assert "give that to Model.from_pipeline" in said


def test_the_cures_of_missing_weights_help(folder, mini, tmp_path):
    """--variant for weights that have another name, --base for parts that neither file nor folder has."""
    make, tokenizer = checkpoints.stable_diffusion, mini.pipeline.tokenizer
    half = checkpoints.save(tmp_path / "half", make, tokenizer, variant="fp16")
    assert "has no weights in safetensors: use --variant fp16" in refused(half)
    assert load_model(str(half), device="cpu", variant="fp16").name == str(half)

    whole = load_model(str(folder), device="cpu").pipeline
    single = save_single_file(whole, tmp_path / "single.safetensors")
    rewrite(single, lambda weights: {n: v for n, v in weights.items() if not n.startswith("first_stage")})
    bare = Path(shutil.copytree(folder, tmp_path / "bare"))
    next((bare / "vae").glob("*.safetensors")).unlink()
    said = refused(single, base=str(bare))
    assert f"has no vae, and neither has {bare}: name with --base" in said
    model = load_model(str(single), device="cpu", base=str(folder))
    assert torch.equal(model.pipeline.vae.encoder.conv_in.weight, whole.vae.encoder.conv_in.weight)


def test_a_hub_id_is_taken_from_the_cache_and_without_network_a_missing_one_is_told_in_one_line(
    folder, tmp_path
):
    """In a process of its own, since the hub's library reads its environment when it is imported."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--someone--tiny"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    environment = os.environ | {
        "HF_HOME": str(tmp_path),
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": "1",
    }

    def check(name):
        command = [sys.executable, "-m", "invrecon", "models", "check", name, "--device", "cpu", "--json"]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    found = check("someone/tiny")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["pipeline"] == "StableDiffusionPipeline"
    missing = check("someone/else")
    assert (missing.returncode, missing.stdout, missing.stderr.count("\n")) == (2, "", 1)
    assert "someone/else" in missing.stderr


def test_models_show_and_check(folder):
    def run(*arguments):
        return CliRunner().invoke(app, ["models", *map(str, arguments)])

    shown = run("show", "flux-dev")
    assert shown.exit_code == 0
    assert "black-forest-labs/FLUX.1-dev" in shown.stdout
    assert run("show", "nosuch").exit_code == 2
    checked = run("check", folder, "--sampler", "dpm++", "--json")
    row = json.loads(checked.stdout)
    assert (checked.exit_code, row["sampler"], row["prediction"], row["converged_steps"]) == (
        0,
        "dpm++",
        "epsilon",
        2,
    )
    assert row["latent_fidelity_db"] > 40


def test_the_autoencoder_in_tiles_and_its_offload(folder):
    tiled = load_model(str(folder), device="cpu", tiling=True)
    assert tiled.pipeline.vae.use_tiling
    assert tiled.encode(torch.zeros(1, 3, 64, 64)).shape == (1, 4, 8, 8)
