"""`invrecon imagine`."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from invrecon.cli.app import app

FEW = ("--steps", "3", "--rtol", "0.1", "--prompt", "a red apple")


@pytest.fixture
def photos(tmp_path_factory):
    """Two photos, of different shapes and kinds of file."""
    folder = tmp_path_factory.mktemp("photos")
    y, x = np.mgrid[0:90, 0:120]
    Image.fromarray(np.stack((2 * x, 2 * y, 255 - 2 * x), -1).astype(np.uint8)).save(folder / "photo.png")
    Image.fromarray(np.stack((255 - x, 2 * y, 100 + 0 * x), -1).astype(np.uint8)[:, :80]).save(
        folder / "other.jpg"
    )
    return [folder / "photo.png", folder / "other.jpg"]


@pytest.fixture
def run(mini, tmp_path, monkeypatch):
    """Runs the command on mini, which is loaded once for all tests."""
    import invrecon.models

    loaded = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(invrecon.models, "load_model", lambda *_, **__: (loaded.append(1), mini)[1])

    def command(*arguments):
        done = CliRunner().invoke(app, ["imagine", *map(str, arguments), "--size", "64", *FEW])
        done.loaded = len(loaded)
        return done

    return command


def lines(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_the_command_writes_pictures_seeds_and_a_sheet_and_a_table_of_them(run, photos, tmp_path):
    result = run(*photos, "-n", 2, "--out", "new/out")
    assert result.exit_code == 0, result.output
    seeds = [f"imagine-0{number}.seed.safetensors" for number in (1, 2)]
    assert sorted(os.listdir("new/out")) == sorted(
        ["imagine-01.png", "imagine-02.png", "imagine-sheet.png", *seeds]
    )
    with Image.open("new/out/imagine-sheet.png") as sheet:
        assert sheet.width > 2 * 256
        assert sheet.height > 2 * 256
    assert "0.50 : 0.50" in result.stdout
    assert "projected on the Gaussian shell" in result.stdout
    assert result.stdout.splitlines()[-1] == "new/out/imagine-sheet.png"
    assert result.stderr == (
        "invrecon: all references are seen at 72x64 pixels; --size WIDTHxHEIGHT takes another shape\n"
    )


def test_json_is_one_line_for_each_reference_and_each_result(run, photos):
    result = run(*photos, "nosuch.png", "-n", 1, "--json", "--out", "out")
    assert result.exit_code == 1
    rows = lines(result)
    assert [row["kind"] for row in rows] == ["reference", "reference", "reference", "picture", "sheet"]
    assert len({tuple(row) for row in rows}) == 1
    assert [row["input"] for row in rows[:3]] == [*map(str, photos), "nosuch.png"]
    assert rows[0]["evaluations"] > 0
    assert "No such file" in rows[2]["error"]
    assert rows[3]["weights"] == [0.5, 0.5]
    assert rows[3]["evaluations"] == 3
    assert abs(rows[3]["seed_norm"] - 1) < 0.02
    assert len(result.stderr.splitlines()) == 2  # the common size, and what failed


def test_a_folder_means_the_pictures_in_it(run, photos, tmp_path):
    (tmp_path / "in").mkdir()
    for one in photos:
        shutil.copy(one, tmp_path / "in")
    (tmp_path / "in" / "CREDITS.md").write_text("not a picture")
    (tmp_path / "in" / ".hidden.png").write_text("not a picture")
    result = run("in", "in/other.jpg", "-n", 1, "--json", "--out", "out")
    assert result.exit_code == 0, result.output
    assert [row["input"] for row in lines(result) if row["kind"] == "reference"] == [
        "in/other.jpg",
        "in/photo.png",
    ]


def test_a_path_is_a_strip_and_an_animation_there_and_back(run, photos):
    result = run("--path", *photos, "--frames", 4, "--gif", "--out", "out", "--json")
    assert result.exit_code == 0, result.output
    assert [row["weights"] for row in lines(result)[2:6]] == [
        [1, 0],
        pytest.approx([2 / 3, 1 / 3]),
        pytest.approx([1 / 3, 2 / 3]),
        [0, 1],
    ]
    assert all(abs(row["seed_norm"] - 1) < 0.02 for row in lines(result)[2:6])
    with Image.open("out/path.gif") as gif:
        assert gif.n_frames == 6
        assert gif.size == (72, 64)
    assert Path("out/path-sheet.png").exists()
    assert not Path("out/imagine-01.png").exists()


@pytest.mark.parametrize("bad", ["nosuch.png", "empty.jpg", "folder", "x" * 300])
def test_references_that_are_all_bad_end_with_a_line_each_and_nothing_written(run, tmp_path, bad):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder").mkdir()
    result = run(bad, "--out", "out")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(f"invrecon: {bad}: ")
    assert os.listdir("out") == []
    assert result.loaded == 0


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("x.png", "--gif"),
        ("--path", "x.png", "y.png", "--refine", "1"),
        ("x.png", "-n", "0"),
        ("x.png", "--spread", "nan"),
        ("x.png", "--spread", "2"),
        ("x.png", "--path-kind", "arc"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line_and_exits_2(run, arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.loaded == 0


def test_results_are_overwritten_with_force_only_and_inputs_never(run, photo):
    Path("imagine-sheet.png").write_text("mine")
    result = run(photo, "-n", 1)
    assert result.exit_code == 1
    assert (
        result.stderr
        == "invrecon: imagine-sheet.png exists; overwrite it with --force or choose another --out\n"
    )
    assert result.loaded == 0
    assert run(photo, "-n", 1, "--force", "--quiet").exit_code == 0
    before = Path("imagine-01.png").read_bytes()
    result = run("imagine-01.png", "-n", 1, "--force")
    assert result.exit_code == 1
    assert "an input of this run" in result.stderr
    assert Path("imagine-01.png").read_bytes() == before


def test_one_reference_without_spread_is_warned_of(run, photo):
    result = run(photo, "-n", 2, "--spread", 0, "--quiet")
    assert result.exit_code == 0
    assert "the same picture each time" in result.stderr
    assert Path("imagine-01.png").read_bytes() == Path("imagine-02.png").read_bytes()
