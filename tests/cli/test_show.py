"""`invrecon show`, and completion in a shell."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import torch

from invrecon.seedfile import Seed, save_seed
from tests.cli.fakes import header, rows, run

PATH = "a.seed.safetensors"


def test_a_seed_file_says_what_it_is_for_people_and_programs():
    save_seed(Seed(torch.ones(1, 4, 8, 8), torch.zeros(1, 4, 8, 8), header(prompt="a cat")), Path(PATH))
    told = dict(line.split(maxsplit=1) for line in run("show", PATH).stdout.splitlines() if "  " in line)
    assert told["prompt"] == "a cat"
    assert told["latents"] == "1 x 4 x 8 x 8"
    [row] = rows(run("show", PATH, "--json"))
    assert row["prompt"] == "a cat"
    assert (row["width"], row["boosted"], row["mask"]) == (64, False, False)
    assert row["sha256"] == hashlib.sha256(Path(PATH).read_bytes()).hexdigest()


def test_another_file_gets_its_line():
    Path("a.txt").write_text("text")
    result = run("show", "a.txt")
    assert result.exit_code == 1
    assert result.stderr == (
        "invrecon: a.txt: is neither a PNG nor, by its ending, a seed file (.safetensors)\n"
    )


def test_the_shell_completes_commands():
    asked = {"_INVRECON_COMPLETE": "complete_bash", "COMP_WORDS": "invrecon inv", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "invrecon"],
        env=os.environ | asked,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["invert"]
    assert "complete_bash" in subprocess.run(
        [sys.executable, "-m", "invrecon", "--show-completion", "bash"],
        env=os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        check=False,
    ).stdout  # fmt: skip
