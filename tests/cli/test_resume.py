"""`--resume`."""

import shutil
from pathlib import Path

import pytest

from invrecon.models import model_contents, model_folder
from tests.cli.fakes import EFFORT, QUALITY, photo, rows, run
from tests.models.weights import configure


def test_resume_takes_over_what_is_finished_and_does_the_rest(fake):
    inputs = [photo(name) for name in ("a.png", "b.png", "c.png")]
    fake.raises["b.png"] = KeyboardInterrupt()
    assert run("reconstruct", *inputs, "--resume", "--batch-size", "1").exit_code == 130
    Path("c.recon.png").write_bytes(b"somebody's")
    fake.raises.clear()
    fake.done.clear()
    again = run("reconstruct", *inputs, "--resume", "--json", "--batch-size", "2")
    assert again.exit_code == 1
    assert "c.recon.png exists" in again.stderr
    first, second, third = rows(again)
    assert fake.done == ["b.png"]
    assert [first["resumed"], second["resumed"]] == [True, False]
    assert {name: first[name] for name in (*QUALITY, *EFFORT)} == {
        name: second[name] for name in (*QUALITY, *EFFORT)
    }
    assert third["error"]
    assert Path("c.recon.png").read_bytes() == b"somebody's"


def test_resume_does_again_what_was_left_half_done_or_is_asked_for_otherwise(fake):
    inputs = [photo(name) for name in ("a.png", "b.png")]
    assert run("reconstruct", *inputs, "--resume").exit_code == 0
    Path("b.recon.png").unlink()
    fake.done.clear()
    assert run("reconstruct", *inputs, "--resume").exit_code == 0
    assert fake.done == ["b.png"]
    assert Path("b.recon.png").exists()
    other = run("reconstruct", *inputs, "--resume", "--steps", "7")
    assert other.exit_code == 1
    assert other.stderr.count("exists; overwrite it with --force") == 2


def test_resume_counts_finished_results_among_those_that_fall_short(fake):
    fake.psnr = 10.0
    assert [
        run("reconstruct", photo("a.png"), "--resume", "--min-psnr", "20").exit_code for _ in range(2)
    ] == [3, 3]
    assert len(fake.done) == 1


def test_notes_that_resume_cannot_read_are_one_line(fake):
    Path(".invrecon.jsonl").write_text("{}\n")
    refused = run("reconstruct", photo("a.png"), "--resume")
    assert refused.exit_code == 2
    assert ".invrecon.jsonl" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("option", "resumed"),
    [
        (["--tiling"], False),
        (["--dtype", "bfloat16"], False),
        (["--decoder-dtype", "float32"], False),
        (["--batch-size", "2", "--device", "cpu"], True),
    ],
)
def test_what_shapes_a_result_is_part_of_the_key_and_what_speeds_it_up_is_not(fake, option, resumed):
    assert run("reconstruct", photo("a.png"), "--resume").exit_code == 0
    again = run("reconstruct", "a.png", "--resume", *option)
    assert again.exit_code == (0 if resumed else 1)
    assert ("exists; overwrite it" in again.stderr) != resumed


def test_a_model_that_changed_in_its_place_is_another_and_its_copy_is_not(fake, folder):
    first, second = (Path(shutil.copytree(model_folder("mini"), folder / name)) for name in ("m", "copy"))
    options = ["reconstruct", photo("a.png"), "--resume", "--model"]
    assert run(*options, str(first)).exit_code == 0
    assert model_contents(str(first)) == model_contents(str(second))
    configure(first / "scheduler" / "scheduler_config.json", prediction_type="epsilon")
    assert model_contents(str(first)) != model_contents(str(second))
    assert run(*options, str(first)).exit_code == 1
    shutil.rmtree(first)
    second.rename(first)
    fake.done.clear()
    assert run(*options, str(first)).exit_code == 0
    assert fake.done == []


def test_a_model_that_is_not_there_is_one_line(fake):
    refused = run("reconstruct", photo("a.png"), "--resume", "--model", "nosuch")
    assert refused.exit_code == 2
    assert len(refused.stderr.splitlines()) == 1
