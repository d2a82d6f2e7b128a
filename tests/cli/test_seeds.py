"""Seed files on the command line: each in the dtype that it was found in; refused ones in one line."""

import shutil
from pathlib import Path

import pytest
import torch

from invrecon.models import model_folder
from invrecon.seedfile import Seed, save_seed
from tests.cli.fakes import header, photo, rows, run
from tests.models.weights import configure


def seed(name, dtype):
    save_seed(Seed(torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 8, 8), header(dtype=dtype)), Path(name))
    return name


@pytest.mark.parametrize(
    ("option", "expected"),
    [([], ["auto", "bfloat16", "bfloat16", "float16"]), (["--dtype", "float32"], ["float32"] * 4)],
)
def test_seeds_run_in_their_own_dtype_unless_one_is_given(fake, option, expected):
    inputs = [photo("a.png"), *(seed(f"{n}.seed.safetensors", f"{n[:-1]}16") for n in ("bfloat1", "bfloat2"))]
    inputs.append(seed("z.seed.safetensors", "float16"))
    result = run("reconstruct", *inputs, *option, "--json")
    assert [row["input"] for row in rows(result)] == inputs
    assert fake.dtypes == expected
    assert [dtype for _, _, dtype in fake.loaded] == list(dict.fromkeys(expected))


def test_verify_runs_in_float32_unless_a_dtype_is_given(fake):
    for option, dtype in (([], "float32"), (["--dtype", "bfloat16"], "bfloat16")):
        assert run("verify", seed("x.seed.safetensors", "bfloat16"), photo("x.png"), *option).exit_code == 0
        assert (fake.loaded[-1][2], fake.verified_in) == (dtype, dtype)


def test_verify_s_row_has_the_photo_s_psnr_and_what_was_seen_and_warnings_are_told(fake):
    fake.advice = "found in bfloat16"
    result = run("verify", "x.seed.safetensors", "x.png", "--json")
    assert result.stderr == "invrecon: warning: x.seed.safetensors: found in bfloat16\n"
    (row,) = rows(result)
    assert row["psnr_photo"] == 29.5
    assert row["seen"] == {"size": [288, 216], "photo": [288, 216], "of": [640, 480], "fit": "stretch"}


@pytest.mark.parametrize("command", ["reconstruct", "verify"])
def test_a_model_that_changed_is_one_line_and_exit_1(folder, photo_and_seed, command):
    image, path, model = photo_and_seed
    configure(model / "scheduler" / "scheduler_config.json", prediction_type="epsilon")
    more = [image] if command == "verify" else []
    result = run(command, path, *more, "--model", str(model), "--device", "cpu")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert "made with scheduler.prediction_type v_prediction, and the model has epsilon now" in line
    assert not Path("x.recon.png").exists()


@pytest.fixture
def photo_and_seed(folder):
    model = Path(shutil.copytree(model_folder("mini"), folder / "m"))
    image = photo("x.png")
    options = ["--model", str(model), "--size", "64", "--steps", "2", "--device", "cpu"]
    assert run("invert", image, *options).exit_code == 0
    return image, "x.seed.safetensors", model
