"""Fifty damaged seed files, drawn anew at each run; `python -m tests.cli.damage 1 SEED` shows one again."""

import json
import random

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from invrecon.cli.app import app
from tests.cli.damage import end, originals, trial


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return originals(tmp_path_factory.mktemp("originals"))


def test_no_damage_ends_in_an_internal_error(files, tmp_path):
    first = random.randrange(10**6)
    print(f"python -m tests.cli.damage 50 {first}")  # shown where it fails
    for seed in range(first, first + 50):
        done, *ends = trial(files, seed, tmp_path)
        assert not any(each.startswith("FAILED") for each in ends), (seed, done, ends)


def changed(original, target, *path, value):
    """A copy of a seed file with another value in its header. Returns its path."""
    with safe_open(original.seed, "pt") as file:
        header = json.loads(file.metadata()["invrecon"])
    *place, last = path
    table = header
    for key in place:
        table = table[key]
    table[last] = value
    save_file(load_file(original.seed), target, metadata={"invrecon": json.dumps(header)})
    return target


@pytest.mark.parametrize(
    ("name", "path", "value", "says"),
    [
        ("plain", ("schedule", "A", 0), 10**400, "'schedule' is not as it should be"),
        ("plain", ("schedule", "prediction"), "noise", "'schedule' is not as it should be"),
        ("memory", ("schedule", "memory", "C", 1), float("nan"), "'schedule' is not as it should be"),
        ("memory", ("schedule", "memory", "C", 1), 0.5, "damaged; get a fresh copy"),
        ("plain", ("width",), 128, "its latents are those of 64 x 64 pixels, not of 128 x 64"),
        ("guided", ("prompt",), "a " * 99, "the prompt has 99 tokens, the text encoder takes 30"),
        ("flow", ("sampler",), "dpm++", "dpm++ is not for flow matching"),
        ("plain", ("num_inference_steps",), 4, "its timesteps are not those"),
        ("half", ("steps", 0), "a", "works"),
    ],
)
def test_what_a_header_says_is_checked_before_it_is_used(files, tmp_path, name, path, value, says):
    """Each in one line of its own that names the file, whether the picture or its figures are asked for."""
    original = next(one for one in files if one.seed.name.startswith(name))
    damaged, out = changed(original, tmp_path / "x.seed.safetensors", *path, value=value), tmp_path / "out"
    commands = ["reconstruct", damaged, "--out", out], ["verify", damaged, original.photo]
    for command, place in zip(commands, (out, tmp_path / "none"), strict=True):
        assert says in end([*map(str, command), "--model", original.model], place)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("photo", "size"), [2**70, 64], "made from 1180591620717411303424 x 64 pixels"),
        (("photo", "box"), [0, 0, 1, "1"], "the photo's box is not four numbers"),
        (("photo", "box"), [0, 0, -1, 2**70], "the photo's box lies outside of it"),
        (("photo", "fit"), "whole", "belongs to no photo"),
        (("photo",), 7, "belongs to no photo"),
    ],
)
def test_a_photo_s_place_is_checked_before_it_is_used(files, tmp_path, path, value, says):
    damaged = changed(files[0], tmp_path / "x.seed.safetensors", *path, value=value)
    assert says in end(["verify", str(damaged), str(files[0].photo), "--model", "mini"], tmp_path / "none")


@pytest.mark.parametrize("command", ["reconstruct", "edit", "verify"])
def test_a_seed_that_leads_to_no_finite_picture_is_named(files, tmp_path, command):
    """Finite latents that overflow on their way down: of this file alone, so exit code 1 and no output."""
    plain = next(one for one in files if one.seed.name.startswith("guided"))
    with safe_open(plain.seed, "pt") as file:
        metadata = file.metadata()
    path, out = tmp_path / "x.seed.safetensors", tmp_path / "out"
    save_file({name: value * 1e36 for name, value in load_file(plain.seed).items()}, path, metadata=metadata)
    more = {"reconstruct": ["--out", out], "edit": ["--to", "snow", "--mode", "swap", "--out", out]}
    arguments = [command, path, *more.get(command, [plain.photo]), "--model", plain.model]
    done = CliRunner().invoke(app, [*map(str, arguments), "--device", "cpu"])
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert f"{path}: {plain.model}: its unet gives values that aren't finite" in done.stderr
    assert not out.exists() or not any(out.iterdir())
