"""What is printed where: JSON lines, tables, warnings and bars."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from invrecon.cli.bars import Overall
from invrecon.cli.output import Output
from invrecon.cli.tables import shorten
from invrecon.errors import InputError
from tests.cli.fakes import FIELDS, photo, rows, run


def test_json_is_one_object_a_line_with_all_fields_in_input_order(fake):
    fake.raises["b.png"] = InputError("b.png: is no good")
    result = run("reconstruct", photo("a.png"), photo("b.png"), "nosuch.png", photo("d.png"), "--json")
    assert [list(row) for row in rows(result)] == [FIELDS] * 4
    assert [row["input"] for row in rows(result)] == ["a.png", "b.png", "nosuch.png", "d.png"]
    good, bad, missing, last = rows(result)
    assert good["error"] is None
    assert (good["psnr"], good["steps"], good["seconds"], good["compare_file"]) == (
        30,
        50,
        2.5,
        "a.compare.png",
    )
    assert bad["error"] == "b.png: is no good"
    assert {name for name, value in bad.items() if value is not None} == {"input", "error"}
    assert {name for name, value in missing.items() if value is not None} == {"input", "error"}
    assert last["output"] == "d.recon.png"
    assert result.exit_code == 1


def test_json_lines_of_a_batch_come_when_it_is_done_and_survive_an_interrupt_of_the_next(fake):
    fake.raises["d.png"] = KeyboardInterrupt()
    result = run(
        "invert",
        *(photo(f"{letter}.png") for letter in "abcd"),
        "--batch-size",
        "2",
        "--json",
        "--out",
        "out",
    )
    assert result.exit_code == 130
    assert [row["input"] for row in rows(result)] == ["a.png", "b.png"]
    assert sorted(os.listdir("out")) == ["a.seed.safetensors", "b.seed.safetensors"]


def test_json_has_null_for_what_is_not_finite(fake):
    fake.psnr = float("inf")
    result = run("reconstruct", photo("x.png"), "--json")
    assert rows(result)[0]["psnr"] is None
    assert rows(result)[0]["ssim"] == 0.9


def test_json_lines_come_as_each_input_is_done(fake, monkeypatch):
    import typer

    order = []
    echo = typer.echo
    monkeypatch.setattr(
        typer, "echo", lambda *a, **k: (order.append(f"printed after {len(fake.done)}"), echo(*a, **k))
    )
    run("invert", photo("a.png"), photo("b.png"), "--json")
    assert order == ["printed after 1", "printed after 2"]


FIGURES = "30.00 -1.00 20.00 288 x 216 of 640 x 480 2.5"  # the default columns


def test_the_table_and_the_files_go_to_stdout(fake):
    result = run("reconstruct", photo("x.png"))
    assert result.stdout.splitlines()[0] == "memory: enough"
    assert " ".join(result.stdout.splitlines()[3].split()) == f"x.png {FIGURES}"
    assert result.stdout.splitlines()[-3:] == ["x.recon.png", "x.seed.safetensors", "x.compare.png"]
    assert result.stderr == ""


def test_verbose_prints_the_other_figures_in_two_more_tables(fake):
    lines = run("reconstruct", photo("x.png"), "--verbose").stdout.splitlines()[1:]
    assert [" ".join(line.split()) for line in lines[2:9:3]] == [
        f"x.png {FIGURES}",
        "x.png 28.00 8.0 0.9000 31.00 29.00 21.00 60.0",
        "x.png 1.100 1.000 0.000 0.010",
    ]


@pytest.mark.parametrize("verbose", [[], ["--verbose"]])
def test_tables_fit_a_hundred_characters_and_long_names_lose_their_middle(fake, verbose):
    name = "holiday-" + "x" * 150 + "-beach.png"
    lines = run("reconstruct", photo(name), *verbose).stdout.splitlines()[1:]
    tables = lines[: 3 * (1 + 2 * len(verbose))]
    assert all(len(line) <= 100 for line in tables)
    for line in tables[2::3]:
        first = line.split()[0]
        assert first.startswith("holiday-")
        assert first.count("…") == 1
        assert first.endswith("each.png")
    assert lines[len(tables)] == name.replace(".png", ".recon.png")


def test_quiet_silences_the_table_but_neither_warnings_nor_errors(fake):
    fake.advice = "1 of 50 steps did not converge"
    result = run("reconstruct", photo("x.png"), "nosuch.png", "--quiet")
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 2
    assert "nosuch.png" in result.stderr.splitlines()[0]
    assert result.stderr.splitlines()[1] == "invrecon: warning: x.png: 1 of 50 steps did not converge"


def test_warnings_stay_out_of_stdout(fake):
    fake.advice = "1 of 50 steps did not converge"
    result = run("invert", photo("x.png"), "--json")
    assert result.exit_code == 0
    assert len(rows(result)) == 1
    assert fake.advice in result.stderr


@pytest.mark.parametrize(
    "name",
    [
        "<b>[red]x[bold].png",
        "<b>[red]x[/].png",
        "a\nb.png",
        "\x1b[31mx.png",
        ":smile: {x} %s.png",
        "é\udcff.png",
    ],
)
def test_hostile_names_are_printed_as_they_are_on_one_line(fake, name):
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    fake.advice = "advice"
    result = run("reconstruct", photo(name), "--out", "out")
    assert result.exit_code == 0, result.output
    assert len(os.listdir("out")) == 3
    assert shown in result.stdout
    assert result.stderr == f"invrecon: warning: {shown}: advice\n"
    again = run("reconstruct", name, "--out", "out", "--json")
    assert again.exit_code == 1
    assert len(again.stderr.splitlines()) == 1
    assert again.stderr.startswith(f"invrecon: {shown}: ")
    assert rows(again)[0]["input"] == name


class Terminal:
    """A stderr that says it is a terminal, and what was written to it."""

    def __init__(self):
        self.text = ""

    def isatty(self):
        return True

    def write(self, text):
        self.text += text
        return len(text)

    def flush(self):
        pass


class Clock:
    seconds = 0.0

    def __call__(self):
        return self.seconds


_NO_BAR = (None, lambda *step: None)


@pytest.mark.parametrize("quiet", [False, True])
def test_bars_are_drawn_on_a_terminal_only_and_show_name_and_stage(monkeypatch, quiet):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with Output(quiet=quiet).progress("[red]x.png") as on_progress:
        on_progress("inverting", 3, 50)
    assert ("[red]x.png: inverting" in terminal.text and "3/50" in terminal.text) is not quiet
    assert bool(terminal.text) is not quiet


def test_a_run_of_several_inputs_has_a_bar_of_its_own_with_the_time_that_is_left(fake, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    overall = Overall(3, clock := Clock())
    with Output().progress("1/3 x.png", overall):
        pass
    assert "all" in terminal.text
    assert "-:--:-- left" in terminal.text
    clock.seconds = 100.0
    overall.advance(1)
    with Output().progress("2/3 y.png", overall) as on_progress:
        clock.seconds = 130.0
        on_progress("inverting", 3, 50)
    assert "y.png: inverting" in terminal.text
    assert "0:02:50 left" in terminal.text
    clock.seconds = 1000.0
    assert overall.seconds_left() == 0


@pytest.mark.parametrize("inputs", [1, 2])
def test_one_input_has_no_bar_of_all(fake, monkeypatch, inputs):
    seen = []
    monkeypatch.setattr("invrecon.cli.bars.bars", lambda title, overall=None: seen.append(overall) or _NO_BAR)
    run("invert", *(photo(f"{number}.png") for number in range(inputs)))
    of_photos = [one and (one.total, one.done) for one in seen[1:]]  # the first is the model's
    assert of_photos == ([None] if inputs == 1 else [(2, 2), (2, 2)])


def test_names_are_shortened_by_the_width_that_they_take():
    assert shorten("short.png", 16) == "short.png"
    assert shorten("a" * 20 + ".png", 16) == "aaaaaaaa…aaa.png"
    wide = shorten("写真" * 10 + ".png", 16)
    assert wide.startswith("写真")
    assert wide.endswith("真.png")
    assert cell_len(wide) <= 16


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["--help"], ["invert", "--help"], ["models", "list"]], ids=" ".join)
def test_a_full_disk_behind_stdout_is_one_line_and_exits_1(arguments):
    command = [sys.executable, "-m", "invrecon", *arguments]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("invrecon: results can't be printed (No space left on device)")
    assert len(done.stderr.splitlines()) == 1
