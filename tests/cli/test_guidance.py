"""The search for the largest guidance scale from the command line."""

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from invrecon import Settings
from invrecon.cli.app import app
from invrecon.errors import UsageError
from invrecon.seedfile import load_seed


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("guidance") / "photo.png"
    Image.radial_gradient("L").convert("RGB").save(path)
    return path


def run(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


def test_the_curve_is_in_the_table_the_json_and_the_seed_file(path, tmp_path):
    options = (
        "--guidance-scale",
        "auto",
        "--prompt",
        "a red apple",
        "--size",
        64,
        "--steps",
        5,
        "--max-guidance",
        2,
        "--out",
        tmp_path,
    )
    shown = run("invert", path, *options)
    assert shown.exit_code == 0, shown.output
    assert "guidance 2, the largest allowed, regenerates within 0.1 dB" in shown.stdout
    assert shown.stdout.count(" of 5 ") == 2
    assert "--max-guidance" in shown.stderr
    printed = run("invert", path, *options, "--json", "--force")
    assert printed.exit_code == 0
    row = json.loads(printed.stdout)
    assert row["guidance_scale"] == 2
    assert [probe["guidance_scale"] for probe in row["guidance_curve"]] == [1, 2]
    assert row["guidance_curve"] == load_seed(tmp_path / "photo.seed.safetensors").header["guidance_curve"]


def test_prompts_that_are_alike_are_refused_with_the_cure(path):
    done = run("reconstruct", path, "--guidance-scale", "auto")
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert "--prompt" in done.stderr
    with pytest.raises(UsageError, match="--prompt"):
        Settings(auto_guidance=True, prompt="a", negative_prompt="a")


def test_new_pictures_have_no_best_guidance(path):
    done = run("imagine", path, "--guidance-scale", "auto", "--prompt", "a red apple")
    assert done.exit_code == 2
    assert "--guidance-scale" in done.stderr
