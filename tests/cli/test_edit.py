"""`invrecon edit`: the pipeline is a fake that works at once."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from invrecon.cli.app import app
from invrecon.errors import InputError, UsageError
from invrecon.seedfile import Seed, load_seed, save_seed
from invrecon.settings import EditSettings

HEADER = {
    "format": 1, "model": "mini", "fingerprint": "0", "scheduler": {}, "timesteps": [1], "prompt": "a cat",
    "negative_prompt": "", "guidance_scale": 1.0, "num_inference_steps": 1, "dtype": "float32", "size": 64,
    "width": 64, "height": 64, "sampler": "ddim",
}  # fmt: skip


class Pipeline:
    """Stands in for the models and the pipeline; notes what it was asked."""

    def __init__(self):
        self.asked, self.edits, self.settings, self.raises = [], [], None, {}
        self.all_edits, self.all_settings = [], []

    def load_model(self, name, device="auto", dtype="float32", **_):
        return SimpleNamespace(name=name, device="cpu")

    def edit(self, source, model, edits, settings, on_progress=None, **rest):
        self.asked.append({"source": source, **rest})
        self.edits, self.settings = edits, settings
        self.all_edits.append(edits)
        self.all_settings.append(settings)
        if source.name in self.raises:
            raise self.raises[source.name]
        square = Image.new("RGB", (64, 64), "red")
        seeds = [_seed(edit=one.header()) for one in edits]
        done = [
            SimpleNamespace(
                settings=one, picture=square, square=square, mask=None, seed=seed, header=seed.header,
                seconds=1.0, change_db=float("inf"),
                outside_psnr=None, outside_reconstruction_psnr=None,
            )
            for one, seed in zip(edits, seeds, strict=True)
        ]  # fmt: skip
        return SimpleNamespace(
            edits=done,
            prompt="a cat",
            inversion=None,
            reconstruction=square,
            original=square,
            psnr=25.0,
            seconds=2.0,
            advice=None,
        )


def _seed(**header):
    return Seed(torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 8, 8), HEADER | header)


@pytest.fixture
def fake(monkeypatch, tmp_path):
    import invrecon.models
    import invrecon.pipeline

    monkeypatch.chdir(tmp_path)
    fake = Pipeline()
    monkeypatch.setattr(invrecon.models, "load_model", fake.load_model)
    monkeypatch.setattr(invrecon.pipeline, "edit", fake.edit)
    monkeypatch.setattr(invrecon.pipeline, "memory_line", lambda model, settings: "memory: enough")
    for name in ("x.png", "y.png"):
        Image.new("RGB", (16, 16), "red").save(name)
    return fake


def run(*arguments: str):
    return CliRunner().invoke(app, ["edit", *arguments])


def test_an_edit_writes_picture_seed_and_comparison(fake):
    result = run("x.png", "--prompt", "a cat", "--to", "a dog", "--out", "out")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "x.edit.compare.png",
        "x.edit.png",
        "x.edit.seed.safetensors",
    ]
    assert load_seed("out/x.edit.seed.safetensors").header["edit"]["to"] == "a dog"
    assert fake.settings.prompt == "a cat"
    assert fake.settings.guidance_scale == 1.0
    assert fake.settings.boost
    assert result.stdout.splitlines()[-3:] == [
        "out/x.edit.png",
        "out/x.edit.seed.safetensors",
        "out/x.edit.compare.png",
    ]


def test_several_targets_and_sweeps_are_all_combined_and_numbered(fake):
    result = run(
        "x.png",
        "--to",
        "a dog",
        "--to",
        "a pig",
        "--sweep",
        "guidance=3,5",
        "cross-steps=0.2,0.8",
        "--json",
        "--out",
        "out",
    )
    assert result.exit_code == 0, result.output
    assert [(one.to, one.guidance_scale, one.cross_steps) for one in fake.edits] == [
        (to, guidance, steps) for to in ("a dog", "a pig") for guidance in (3, 5) for steps in (0.2, 0.8)
    ]
    row = json.loads(result.stdout)
    assert row["prompt"] == "a cat"
    assert row["error"] is None
    assert [one["output"] for one in row["edits"]] == [f"out/x.edit-{number}.png" for number in range(1, 9)]
    assert row["edits"][0]["change_db"] is None
    assert len(list(Path("out").iterdir())) == 17


@pytest.mark.parametrize(
    ("option", "value", "name", "setting"),
    [
        ("--mode", "masactrl", "mode", "masactrl"),
        ("--guidance-scale", "3", "guidance_scale", 3),
        ("--negative-prompt", "a pig", "negative_prompt", "a pig"),
        ("--words", "refine", "words", "refine"),
        ("--weight", "dog=1.5", "weights", {"dog": 1.5}),
        ("--cross-steps", "0.3", "cross_steps", 0.3),
        ("--self-steps", "0.3", "self_steps", 0.3),
        ("--start-step", "0.3", "start_step", 0.3),
        ("--start-layer", "0.3", "start_layer", 0.3),
        ("--strength", "0.3", "strength", 0.3),
        ("--mask-threshold", "0.3", "mask_threshold", 0.3),
        ("--forget", "0.3", "forget", 0.3),
        ("--from-step", "0.2", "from_step", 0.2),
        ("--to-step", "0.3", "to_step", 0.3),
        ("--from-layer", "0.3", "from_layer", 0.3),
        ("--to-layer", "0.3", "to_layer", 0.3),
        ("--keys", "", "keys", True),
        ("--n-avg", "3", "n_avg", 3),
        ("--noise-seed", "3", "noise_seed", 3),
    ],
)
def test_every_setting_of_an_edit_has_its_option(fake, option, value, name, setting):
    assert run("x.png", "--to", "a dog", option, *[value][: value != ""]).exit_code == 0
    assert fake.edits == [EditSettings("a dog", **{name: setting})]


def test_a_seed_repeats_its_edit_and_options_change_it(fake):
    save_seed(_seed(edit=EditSettings("a dog", guidance_scale=3.0).header()), "x.edit-2.seed.safetensors")
    assert run("x.edit-2.seed.safetensors", "--photo", "x.png", "--out", "out").exit_code == 0
    assert fake.edits == [EditSettings("a dog", guidance_scale=3.0)]
    assert fake.asked[0]["photo"] == Path("x.png")
    assert Path("out/x.edit.png").exists()
    assert (
        run("x.edit-2.seed.safetensors", "--auto-mask", "--sweep", "forget=0,1", "--out", "again").exit_code
        == 0
    )
    assert fake.edits == [
        EditSettings("a dog", guidance_scale=3.0, auto_mask=True, forget=share) for share in (0.0, 1.0)
    ]


def test_masks_are_one_for_all_or_one_for_each(fake):
    assert run("x.png", "y.png", "--to", "a dog", "--mask", "m.png").exit_code == 0
    assert [asked["mask"] for asked in fake.asked] == [Path("m.png")] * 2
    assert (
        run("x.png", "y.png", "--to", "a dog", "--mask", "m.png", "--mask", "n.png", "--force").exit_code == 0
    )
    assert [asked["mask"] for asked in fake.asked[2:]] == [Path("m.png"), Path("n.png")]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["x.png"], "--to"),
        (["x.png", "--to", "a dog", "--mode", "magic"], "mode must be one of"),
        (["x.png", "--to", "a dog\udce9"], "to isn't valid text"),
        (["x.png", "--to", "a dog", "--strength", "1.5"], "strength must lie between 0 and 1"),
        (["x.png", "--to", "a dog", "--guidance-scale", "-1"], "guidance_scale must lie"),
        (["x.png", "--to", "a dog", "--weight", "dog"], "WORD=FLOAT"),
        (["x.png", "--to", "a dog", "--weight", "dog=2", "--mode", "swap"], "p2p only"),
        (["x.png", "--to", "a dog", "--sweep", "strength=0.2,0.4"], "--mode sdedit"),
        (["x.png", "--to", "a dog", "--sweep", "bogus=1"], "NAME=VALUE"),
        (["x.png", "--to", "a dog", "--sweep", "guidance=a"], "numbers"),
        (["x.png", "--to", "a dog", "--inversion", "magic"], "inversion must be one of"),
        (["x.png", "y.png", "--to", "a dog", "--mask", "m", "--mask", "n", "--mask", "o"], "--mask"),
        (["x.png", "--to", "a dog", "--photo", "y.png"], "--photo"),
        ([], "name photos"),
        (
            ["x.png", "--to", "a dog", "--from-step", "0.6"],
            "from_step must be at most to_step, not 0.6 and 0.25",
        ),
        (["x.png", "--to", "a dog", "--sweep", "n-avg=1.5"], "numbers"),
        (["x.png", "--to", "a dog", "--mode", "swap", "--sweep", "to-step=0.4"], "--mode inject"),
        (["x.png", "--to", "a dog", "--mode", "swap", "--sweep", "strength=0.4"], "sdedit or flowedit only"),
        (["x.png", "--to", "a dog", "--targets", "nosuch.json"], "nosuch.json"),
    ],
)
def test_wrong_usage_is_one_line_and_exits_2(fake, arguments, complaint):
    result = run(*arguments)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert complaint in result.stderr
    assert fake.asked == []


def test_a_failed_input_does_not_stop_the_others(fake):
    fake.raises["x.png"] = InputError(
        "m.png: a mask of 4 x 4 pixels for a photo of 16 x 16; they must be alike"
    )
    result = run("x.png", "y.png", "--to", "a dog", "--json")
    assert result.exit_code == 1
    assert (
        result.stderr
        == "invrecon: x.png: m.png: a mask of 4 x 4 pixels for a photo of 16 x 16; they must be alike\n"
    )
    assert [json.loads(line)["error"] is None for line in result.stdout.splitlines()] == [False, True]


@pytest.mark.parametrize(("least", "code"), [("24", 0), ("26", 3)])
def test_min_psnr_is_of_the_reconstruction(fake, least, code):
    assert run("x.png", "--to", "a dog", "--min-psnr", least).exit_code == code


def test_each_photo_has_its_own_caption_and_target(fake):
    Path("now.json").write_text(json.dumps({"x": "a cat", "y.png": "a pig"}))
    Path("then.json").write_text(json.dumps({"x": "a dog"}))
    arguments = ["x.png", "y.png", "--captions", "now.json", "--targets", "then.json", "--out", "out"]
    result = run(*arguments, "--to", "a hen", "--sweep", "guidance=3,5", "--json")
    assert result.exit_code == 0, result.output
    assert [[one.to for one in edits] for edits in fake.all_edits] == [["a dog"] * 2, ["a hen"] * 2]
    assert [settings.prompt for settings in fake.all_settings] == ["a cat", "a pig"]
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [[one["to"] for one in row["edits"]] for row in rows] == [["a dog"] * 2, ["a hen"] * 2]
    assert len(list(Path("out").iterdir())) == 10


def test_sidecars_are_captions_and_a_prompt_for_all_wins(fake):
    Path("x.txt").write_text("a cat")
    assert run("x.png", "y.png", "--sidecars", "--to", "a dog").exit_code == 0
    assert [settings.prompt for settings in fake.all_settings] == ["a cat", ""]
    assert run("x.png", "--sidecars", "--prompt", "a pig", "--to", "a dog", "--force").exit_code == 0
    assert fake.settings.prompt == "a pig"


def test_a_photo_without_a_target_fails_alone_and_the_cure_works(fake):
    Path("then.json").write_text(json.dumps({"y": "a dog"}))
    result = run("x.png", "y.png", "--targets", "then.json")
    assert result.exit_code == 1
    assert result.stderr == (
        "invrecon: x.png: isn't named in then.json; add what it should show, or give --to\n"
    )
    assert [asked["source"] for asked in fake.asked] == [Path("y.png")]
    assert run("x.png", "y.png", "--targets", "then.json", "--to", "a hen", "--force").exit_code == 0


def test_a_text_that_can_not_be_used_is_its_photo_s_error_where_each_has_its_own(fake):
    fake.raises["x.png"] = UsageError("the prompt has 90 tokens, the text encoder takes 75: end it after 'a'")
    Path("then.json").write_text(json.dumps({"x": "a dog", "y": "a dog"}))
    assert run("x.png", "y.png", "--to", "a dog").exit_code == 2
    result = run("x.png", "y.png", "--targets", "then.json")
    assert result.exit_code == 1
    assert result.stderr.startswith("invrecon: x.png: the prompt has 90 tokens")
    assert Path("y.edit.png").exists()


def test_photos_of_one_name_in_two_folders_do_not_write_over_each_other(fake):
    for folder in ("one", "two"):
        Path("photos", folder).mkdir(parents=True)
        Image.new("RGB", (16, 16), "red").save(Path("photos", folder, "x.png"))
    result = run("photos", "--recursive", "--to", "a dog", "--out", "out")
    assert result.exit_code == 1
    assert "take --keep-tree" in result.stderr
    assert run("photos", "--recursive", "--to", "a dog", "--out", "out", "--keep-tree").exit_code == 0
    assert Path("out/one/x.edit.png").exists()
    assert Path("out/two/x.edit.png").exists()


def test_flowedit_writes_no_seed_of_a_photo_and_says_that_it_used_none(fake):
    result = run("x.png", "--to", "a dog", "--mode", "flowedit", "--out", "out", "--json")
    assert result.exit_code == 0, result.output
    [edit] = json.loads(result.stdout)["edits"]
    assert (edit["seed_file"], edit["uses_seed"]) == (None, False)
    assert sorted(path.name for path in Path("out").iterdir()) == ["x.edit.compare.png", "x.edit.png"]
    run("x.png", "--to", "a dog", "--sweep", "mode=swap,flowedit", "--out", "two")
    assert len(list(Path("two").glob("*.seed.safetensors"))) == 2
