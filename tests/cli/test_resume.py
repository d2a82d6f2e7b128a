"""`--resume`."""

from pathlib import Path

from tests.cli.fakes import EFFORT, QUALITY, photo, rows, run


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
