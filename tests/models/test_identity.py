"""What a seed file can keep of a model, so that a later check says which field differs."""

import json
import shutil

import pytest
import torch

from invrecon.models import load_model
from invrecon.models.identity import differences
from invrecon.models.quiet import quiet
from tests import checkpoints
from tests.models.weights import configure, copy, rewrite
from tests.single_file import save_single_file


@pytest.fixture(scope="module")
def folder(mini, tmp_path_factory):
    return checkpoints.save(
        tmp_path_factory.mktemp("sd"), checkpoints.stable_diffusion, mini.pipeline.tokenizer
    )


def identity(path, **options):
    return load_model(str(path), device="cpu", **options).identity()


def test_it_is_small_json_and_the_same_at_every_load(folder, mini):
    for found in (identity(folder), mini.identity()):
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        assert len(json.dumps(found)) < 8000
        assert set(found) == {"weights", "configuration", "tokenizers", "attachments"}
    assert differences(identity(folder), identity(folder)) == []
    assert set(mini.identity()["configuration"]) == {
        "unet", "vae", "text_encoder", "tokenizer", "scheduler", "pipeline"
    }  # fmt: skip


CHANGES = {
    "scheduler/scheduler_config.json": (
        {"prediction_type": "v_prediction"},
        ("scheduler.prediction_type", "epsilon", "v_prediction"),
    ),
    "vae/config.json": ({"scaling_factor": 9.5}, ("vae.scaling_factor", "10.0", "9.5")),
    "unet/config.json": ({"act_fn": "gelu"}, ("unet.act_fn", "silu", "gelu")),
    "text_encoder/config.json": (
        {"hidden_act": "gelu"},
        ("text_encoder.hidden_act", "quick_gelu", "gelu"),
    ),
    "tokenizer/tokenizer_config.json": (
        {"padding_side": "left"},
        ("tokenizer.padding_side", "right", "left"),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_setting_that_changed_is_named_with_its_values(folder, tmp_path, name):
    path, (change, line) = copy(folder, tmp_path / "m"), CHANGES[name]
    configure(path / name, **change)
    assert differences(identity(folder), identity(path)) == [line]


def test_the_pipeline_s_own_settings_count(mini, tmp_path):
    """SDXL's takes zeros in the place of an empty negative prompt, or encodes it."""
    folder = checkpoints.save(tmp_path / "m", checkpoints.stable_diffusion_xl, mini.pipeline.tokenizer)
    then = identity(folder)
    configure(folder / "model_index.json", force_zeros_for_empty_prompt=False)
    now = identity(folder)
    assert differences(then, now) == [("pipeline.force_zeros_for_empty_prompt", "True", "False")]
    early = then | {"configuration": dict(then["configuration"])}
    for name in ("pipeline", "tokenizer", "tokenizer_2"):
        del early["configuration"][name]
    assert differences(early, now) == []


def test_another_way_to_lay_out_a_chat_is_named(folder):
    model = load_model(str(folder), device="cpu")
    then = model.identity()
    model.pipeline.tokenizer.chat_template = "{{ messages }}"
    [one] = differences(then, model.identity())
    assert one.field == "tokenizer.chat_template"


def test_other_weights_and_another_vocabulary_are_named(folder, tmp_path):
    path = copy(folder, tmp_path / "m")
    rewrite(path / "vae", lambda weights: {name: value * 1.01 for name, value in weights.items()})
    then, now = identity(folder), identity(path)
    digests = [each["weights"]["vae"][:8] for each in (then, now)]
    assert differences(then, now) == [("vae weights", *digests)]
    assert digests[0] != digests[1]
    path = copy(folder, tmp_path / "t")
    table = json.loads((path / "tokenizer" / "tokenizer.json").read_text())
    table["model"]["merges"].insert(5, table["model"]["merges"].pop())  # which come first counts
    (path / "tokenizer" / "tokenizer.json").write_text(json.dumps(table))
    (path / "tokenizer" / "merges.txt").unlink(missing_ok=True)
    then, now = identity(folder), identity(path)
    digests = [each["tokenizers"]["tokenizer"][:8] for each in (then, now)]
    assert differences(then, now) == [("tokenizer", *digests)]
    assert digests[0] != digests[1]


def test_a_re_export_and_settings_of_later_versions_are_no_difference(folder, tmp_path):
    with quiet():
        load_model(str(folder), device="cpu").pipeline.save_pretrained(tmp_path / "again")
    then, now = identity(folder), identity(tmp_path / "again")
    assert differences({**then, "weights": {}}, {**now, "weights": {}}) == []
    now["configuration"]["scheduler"] |= {"a_later_option": False, "another": None}
    assert differences({**then, "weights": {}}, {**now, "weights": {}}) == []
    now["configuration"]["scheduler"]["a_later_option"] = True
    assert differences({**then, "weights": {}}, {**now, "weights": {}}) == [
        ("scheduler.a_later_option", "unset", "True")
    ]
    assert differences({**then, "weights": {}}, {**now, "weights": {}}, same_versions=False) == []


def test_long_lists_are_told_apart(folder, tmp_path):
    betas = torch.linspace(1e-4, 0.02, 1000).tolist()
    found = []
    for factor in (1, 0.99):
        path = copy(folder, tmp_path / "m")
        configure(
            path / "scheduler" / "scheduler_config.json", trained_betas=[beta * factor for beta in betas]
        )
        found.append(identity(path))
    (one,) = differences(*found)
    assert one.field == "scheduler.trained_betas"
    assert one.then.startswith("a list of 1000 (")
    assert one.then != one.now
    shutil.rmtree(tmp_path / "m")


def test_a_single_file_s_own_weights_and_borrowed_parts(folder, tmp_path):
    path = save_single_file(load_model(str(folder), device="cpu").pipeline, tmp_path / "m.safetensors")
    whole = identity(path, base=str(folder))
    assert set(whole["weights"]) == {"file"}
    rewrite(path, lambda weights: {k: v for k, v in weights.items() if not k.startswith("first_stage")})
    lacking = identity(path, base=str(folder))
    assert set(lacking["weights"]) == {"file", "vae"}
    assert [one.field for one in differences(whole, lacking)] == ["file weights", "vae weights"]
    assert differences(whole, lacking)[1].then == "none"


def test_the_sampler_s_scheduler_is_the_one_that_counts(folder):
    model = load_model(str(folder), device="cpu")
    assert differences(model.identity(), model.identity("ddim")) == []
    (one, *_) = differences(model.identity(), model.identity("euler"))
    assert one == ("scheduler._class_name", "DDIMScheduler", "EulerDiscreteScheduler")
