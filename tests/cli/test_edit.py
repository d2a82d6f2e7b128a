"""`invrecon edit`: the pipeline is a fake that works at once."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from invrecon.cli.app import app
from invrecon.errors import InputError
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

    def load_model(self, name, device="auto", dtype="float32", **_):
        return SimpleNamespace(name=name, device="cpu")

    def edit(self, source, model, edits, settings, on_progress=None, **rest):
        self.asked.append({"source": source, **rest})
        self.edits, self.settings = edits, settings
        if source.name in self.raises:
            raise self.raises[source.name]
        square = Image.new("RGB", (64, 64), "red")
        done = [
            SimpleNamespace(
                settings=one, picture=square, square=square, mask=None, seed=_seed(edit=one.header()),
                seconds=1.0, change_db=float("inf"),
                outside_psnr=None, outside_reconstruction_psnr=None,
            )
            for one in edits
        ]  # fmt: skip
        return SimpleNamespace(
            edits=done,
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
    ],
)
def test_every_setting_of_an_edit_has_its_option(fake, option, value, name, setting):
    assert run("x.png", "--to", "a dog", option, value).exit_code == 0
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
