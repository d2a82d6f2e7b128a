"""`invrecon summary` and `--dry-run`: what was done, and what would be."""

import json
import os
from pathlib import Path

import pytest

from invrecon.errors import InputError
from tests.cli.fakes import photo, rows, run


def test_a_summary_has_a_table_files_and_a_page(fake):
    inputs = [photo(f"in/{letter}.png") for letter in "abcd"]
    for name in ("b.png", "c.png"):
        fake.raises[name] = InputError(f"in/{name}: is <b>no</b> good")
    run("reconstruct", *inputs, "nosuch.jpg", "--out", "out", "--resume", "--batch-size", "1")
    done = run("summary", "out")
    assert done.exit_code == 0, done.output
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == "2 done, 3 failed"
    assert "PSNR, dB 30.00 30.00 30.00 30.00 30.00" in lines
    assert "2 failed: is <b>no</b> good" in lines
    table = [json.loads(line) for line in Path("out/results.jsonl").read_text().splitlines()]
    assert [(row["input"], row.get("psnr")) for row in table] == [
        ("in/a.png", 30.0), ("in/d.png", 30.0), ("in/b.png", None), ("in/c.png", None), ("nosuch.jpg", None),
    ]  # fmt: skip
    page = Path("out/summary.html").read_text()
    assert page.count("<img ") == 2
    assert "is &lt;b&gt;no&lt;/b&gt; good" in page
    assert "<b>" not in page
    assert "script" not in page
    fake.raises.clear()
    run("reconstruct", *inputs, "--out", "out", "--resume", "--batch-size", "1")
    again = run("summary", "out", "--to", "told", "--json")
    assert (rows(again)[0]["done"], rows(again)[0]["failed"]) == (4, 1)
    assert sorted(os.listdir("told"))[-1] == "summary.html"


def test_a_photo_that_was_mended_has_not_failed(fake):
    for folder in ("in", "more"):
        photo(f"{folder}/b.png")
        Path(folder, "a.png").write_text("text")
    asked = "invert", "in", "--recursive", "--out", "out", "--resume"
    told = "summary", "out", "--to", "told", "--json"
    assert run(*asked).exit_code == 1
    assert (rows(run(*told))[0]["done"], rows(run(*told))[0]["failed"]) == (1, 1)
    photo("in/a.png")
    assert run(*asked).exit_code == 0
    assert (rows(run(*told))[0]["done"], rows(run(*told))[0]["failed"]) == (2, 0)
    assert run(*asked, "more").exit_code == 1  # of the same names
    assert rows(run(*told))[0]["failed"] == 2
    table = [json.loads(line) for line in Path("told/results.jsonl").read_text().splitlines()]
    assert [row["input"] for row in table] == ["a.png", "b.png", "more/a.png", "more/b.png"]


def test_the_table_is_parquet_where_pyarrow_is(fake):
    parquet = pytest.importorskip("pyarrow.parquet")
    run("invert", photo("a.png"), "--out", "out", "--resume")
    assert run("summary", "out").exit_code == 0
    table = parquet.read_table("out/results.parquet").to_pylist()
    assert (table[0]["input"], table[0]["evaluations"]) == ("a.png", 400)


def test_a_folder_without_notes_has_no_summary(fake):
    run("invert", photo("a.png"), "--out", "out")
    refused = run("summary", "out")
    assert refused.exit_code == 2
    assert "only runs with --resume leave them" in refused.stderr


def test_a_dry_run_says_what_there_is_to_do_and_writes_nothing(fake):
    inputs = [photo(f"{letter}.png") for letter in "abcde"]
    assert run("reconstruct", inputs[0], "--resume", "--out", "out").exit_code == 0
    before = sorted(os.listdir("out"))
    fake.done.clear()
    asked = "reconstruct", *inputs, "nosuch.png", "--resume", "--out", "out", "--dry-run"
    told = rows(run(*asked, "--json"))[0]
    assert (told["inputs"], told["to_do"], told["done"], told["failed"]) == (6, 4, 1, 1)
    assert len(fake.done) == 3
    assert told["bytes"] == pytest.approx(4 * told["bytes_each"])
    assert told["bytes_each"] > 1000
    assert sorted(os.listdir("out")) == before
    text = run(*asked).stdout
    assert text.startswith("6 inputs: 4 to do, 1 done, 1 can't be done\nabout ")
