"""Many inputs in one run: what is written, in which order, and what happens to those that can't be used."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from invrecon.errors import InputError, InvreconError, UsageError
from invrecon.seedfile import load_seed
from tests.cli.fakes import photo, picture, rows, run


def test_reconstruct_writes_three_whole_files_into_a_new_folder(fake):
    result = run("reconstruct", photo("in/x.jpg"), "--out", "a/b")
    assert result.exit_code == 0, result.output
    assert sorted(os.listdir("a/b")) == ["x.compare.png", "x.recon.png", "x.seed.safetensors"]
    assert picture("a/b/x.recon.png").getpixel((0, 0)) == (255, 0, 0)
    assert load_seed(Path("a/b/x.seed.safetensors")).latents.shape == (1, 4, 8, 8)
    assert picture("a/b/x.compare.png").width >= 5 * 256  # five panels
    assert os.listdir("in") == ["x.jpg"]


def test_reconstruct_takes_a_seed_file_and_writes_its_picture_only(fake):
    assert run("invert", photo("x.png"), "--out", "seeds").exit_code == 0
    result = run("reconstruct", "seeds/x.seed.safetensors", "--json")
    assert result.exit_code == 0, result.output
    assert sorted(os.listdir()) == ["seeds", "x.png", "x.recon.png"]
    row = rows(result)[0]
    assert row["output"] == "x.recon.png"
    assert row["latent_fidelity_db"] == 60
    assert [row[name] for name in ("seed_file", "compare_file", "psnr", "steps")] == [None] * 4


@pytest.mark.parametrize("command", ["invert", "reconstruct", "boost"])
def test_photos_are_done_in_batches_and_seed_files_alone(fake, command):
    fake.raises["b.png"] = InputError("b.png: is no good")
    names = [photo(f"{letter}.png") for letter in "abcde"]
    result = run(command, *names[:2], "nosuch.png", *names[2:], "--batch-size", "3", "--json", "--out", "out")
    assert fake.batches == [["a.png", "b.png", "c.png"], ["d.png", "e.png"]]
    assert [(row["input"], row["error"] is None) for row in rows(result)] == [
        ("a.png", True), ("b.png", False), ("nosuch.png", False), ("c.png", True), ("d.png", True),
        ("e.png", True),
    ]  # fmt: skip
    assert result.exit_code == 1
    assert len(fake.loaded) == 1
    assert sorted({name[0] for name in os.listdir("out")}) == ["a", "c", "d", "e"]


def test_a_seed_file_among_photos_is_regenerated_alone(fake):
    assert run("invert", photo("x.png")).exit_code == 0
    result = run(
        "reconstruct",
        photo("a.png"),
        photo("b.png"),
        "x.seed.safetensors",
        photo("c.png"),
        "--batch-size",
        "4",
        "--json",
    )
    assert fake.batches[1:] == [["a.png", "b.png"], ["c.png"]]
    assert [row["output"] for row in rows(result)] == [
        "a.recon.png",
        "b.recon.png",
        "x.recon.png",
        "c.recon.png",
    ]


@pytest.mark.parametrize(
    ("bad", "cause"),
    [
        ("nosuch.png", "No such file"),
        ("folder", "is a folder"),
        ("", "is a folder"),
        ("x" * 300 + ".png", "too long"),
    ],
)
def test_inputs_that_cannot_be_used_fail_in_one_line_before_the_model_loads(fake, bad, cause):
    Path("folder").mkdir()
    result = run("reconstruct", bad)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("invrecon: ")
    assert cause in result.stderr
    assert fake.loaded == []


def test_a_failed_input_does_not_stop_the_others(fake):
    fake.raises["a.png"] = InvreconError("the decoded image has values that aren't finite")
    result = run("reconstruct", photo("a.png"), photo("b.png"))
    assert result.exit_code == 1
    assert result.stderr == "invrecon: a.png: the decoded image has values that aren't finite\n"
    assert Path("b.recon.png").exists()
    assert not Path("a.recon.png").exists()
    assert len(fake.loaded) == 1


def test_settings_that_the_model_refuses_end_the_run_with_2(fake):
    fake.raises["a.png"] = UsageError("size must be a multiple of 64 for mini, not 72")
    result = run("invert", photo("a.png"), photo("b.png"))
    assert result.exit_code == 2
    assert result.stderr == "invrecon: size must be a multiple of 64 for mini, not 72\n"
    assert fake.done == ["a.png"]


def test_seed_sets_the_generators_alike_for_every_input(fake, monkeypatch):
    import invrecon.pipeline

    drawn = []
    monkeypatch.setattr(
        invrecon.pipeline,
        "invert_batch",
        lambda *a: (drawn.append(torch.rand(()).item()), fake.invert_batch(*a))[1],
    )
    for seed, name in (("1", "one"), ("1", "two"), ("2", "three")):
        assert run("invert", photo("x.png"), photo("y.png"), "--seed", seed, "--out", name).exit_code == 0
    assert drawn[0] == drawn[1] == drawn[2] == drawn[3] != drawn[4]


def test_results_are_overwritten_with_force_only(fake):
    Path("x.compare.png").write_text("mine")
    result = run("reconstruct", photo("x.png"))
    assert result.exit_code == 1
    assert (
        result.stderr
        == "invrecon: x.png: x.compare.png exists; overwrite it with --force or choose another --out\n"
    )
    assert Path("x.compare.png").read_text() == "mine"
    assert fake.loaded == []
    assert run("reconstruct", "x.png", "--force").exit_code == 0
    assert picture("x.compare.png").width > 16


def test_force_never_overwrites_an_input_of_the_same_run(fake):
    before = Path(photo("x.recon.png")).read_bytes()
    result = run("reconstruct", photo("x.png"), "x.recon.png", "--force", "--json")
    assert result.exit_code == 1
    assert "an input of this run" in rows(result)[0]["error"]
    assert rows(result)[1]["error"] is None
    assert Path("x.recon.png").read_bytes() == before


def test_the_second_of_two_inputs_with_the_same_results_fails(fake):
    result = run("reconstruct", photo("a/x.png"), photo("b/x.jpg"), "--force", "--json")
    assert result.exit_code == 1
    assert [row["error"] is None for row in rows(result)] == [True, False]
    assert len(result.stderr.splitlines()) == 1
    for part in ("b/x.jpg", "a/x.png", "rename", "--out"):
        assert part in result.stderr
    assert fake.done == ["x.png"]


def test_invert_refuses_a_seed_file_before_the_model_loads(fake):
    Path("x.seed.safetensors").touch()
    result = run("invert", "x.seed.safetensors", "--out", "out")
    assert result.exit_code == 1
    assert "reconstruct" in result.stderr
    assert fake.loaded == []


@pytest.mark.parametrize(("least", "code"), [("29.9", 0), ("30", 0), ("30.1", 3)])
def test_min_psnr(fake, least, code):
    result = run("reconstruct", photo("x.png"), "--min-psnr", least)
    assert result.exit_code == code
    assert len(result.stderr.splitlines()) == (code == 3)
    assert Path("x.recon.png").exists()


def test_min_psnr_is_not_reached_by_nan(fake):
    fake.psnr = float("nan")
    assert run("reconstruct", photo("x.png"), "--min-psnr", "0").exit_code == 3


def test_a_failed_input_outweighs_a_poor_result(fake):
    assert run("reconstruct", photo("x.png"), "nosuch.png", "--min-psnr", "40").exit_code == 1


def test_an_input_that_is_no_picture_claims_no_names(fake):
    Path("cat.json").write_text('{"prompt": "a cat"}')
    Path("IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    inputs = ["IMG_1.HEIC", photo("IMG_1.jpg"), "cat.json", photo("cat.png")]
    result = run("invert", *inputs, "--out", "out", "--json")
    assert result.exit_code == 1
    assert [row["error"] is None for row in rows(result)] == [False, True, False, True]
    heic, json = result.stderr.splitlines()
    assert heic.startswith("invrecon: IMG_1.HEIC: can't be decoded")
    assert json == "invrecon: cat.json: isn't a picture that can be read; save it as PNG or JPEG first"
    assert sorted(os.listdir("out")) == ["IMG_1.seed.safetensors", "cat.seed.safetensors"]
    assert fake.done == ["IMG_1.jpg", "cat.png"]


def test_a_checkpoint_is_not_taken_for_a_seed_file(fake):
    save_file({"w": torch.zeros(1)}, "x.safetensors")
    result = run("reconstruct", "x.safetensors", photo("x.png"), "--json")
    assert [row["error"] is None for row in rows(result)] == [False, True]
    assert result.stderr == "invrecon: x.safetensors: a safetensors file, but not a seed file of invrecon\n"


@pytest.mark.parametrize("command", ["invert", "reconstruct", "boost"])
def test_a_result_that_has_come_to_be_during_the_run_is_kept(fake, command):
    """As by another run into the same folder."""

    def other_run():
        for ending in ("seed.safetensors", "boosted.seed.safetensors"):
            Path(f"x.{ending}").write_text("another run's")

    fake.before = other_run
    result = run(command, photo("x.png"), "--json")
    assert result.exit_code == 1
    assert "has come to be meanwhile" in rows(result)[0]["error"]
    assert "--force" in rows(result)[0]["error"]
    assert len(result.stderr.splitlines()) == 1
    made = {"x.png", "x.seed.safetensors", "x.boosted.seed.safetensors"}
    assert set(os.listdir()) == made
    assert {Path(name).read_text() for name in made - {"x.png"}} == {"another run's"}
    assert run(command, "x.png", "--force").exit_code == 0
