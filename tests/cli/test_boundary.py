"""Where exceptions turn into a line and an exit code."""

import os
import subprocess
import sys

import pytest

from invrecon.errors import UsageError
from tests.cli.fakes import photo, rows, run


def test_a_bug_is_told_in_one_line(fake):
    fake.raises["x.png"] = RuntimeError("two\nlines [red]")
    result = run("reconstruct", photo("x.png"))
    assert result.exit_code == 1
    assert result.stdout == "memory: enough\n"
    assert (
        result.stderr == "invrecon: internal error: RuntimeError: two\\nlines [red]; "
        "set INVRECON_DEBUG=1 for the traceback\n"
    )


def test_a_bug_is_raised_for_debugging_but_a_mistake_is_not(fake, monkeypatch):
    monkeypatch.setenv("INVRECON_DEBUG", "1")
    fake.raises |= {"x.png": RuntimeError("a bug"), "y.png": UsageError("a mistake")}
    assert isinstance(run("reconstruct", photo("x.png")).exception, RuntimeError)
    assert run("reconstruct", photo("y.png")).exit_code == 2


@pytest.mark.parametrize("command", ["invert", "reconstruct"])
def test_an_interrupt_is_one_line_and_leaves_what_is_complete(fake, command):
    fake.raises["b.png"] = KeyboardInterrupt()
    result = run(command, photo("a.png"), photo("b.png"), photo("c.png"), "--json", "--out", "out")
    assert result.exit_code == 130
    assert result.stderr == "invrecon: interrupted\n"
    assert [row["input"] for row in rows(result)] == ["a.png"]
    assert {name[0] for name in os.listdir("out")} == {"a"}


def test_a_reader_that_leaves_ends_the_run_silently(fake, monkeypatch):
    import typer

    def leave(*_, **__):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(typer, "echo", leave)
    result = run("invert", photo("a.png"), photo("b.png"), "--json")
    assert (result.stdout, result.stderr) == ("", "")
    assert fake.done == ["a.png"]


def test_a_real_pipe_that_nobody_reads_is_silent(tmp_path):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "invrecon", "reconstruct", "nosuch.png", "--json"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (
        done.stderr
        == "invrecon: nosuch.png: can't be used (No such file or directory); check its name and permissions\n"
    )
    assert done.returncode == 1
