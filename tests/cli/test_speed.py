"""`invrecon speed`."""

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from invrecon.cli.app import app
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
