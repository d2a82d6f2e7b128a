"""The driver of a run is killed or interrupted; results are whole, and the same command does what is left."""

import os
import signal
from pathlib import Path

import pytest

from tests.cli.fakes import photo
from tests.cluster.killing import COUNT, check_that_kills_lose_nothing, start

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("kind", ["here", "processes"])
def test_the_driver_dies_and_the_same_command_does_the_rest(folder, kind):
    check_that_kills_lose_nothing(kind, kills=2)


@pytest.mark.parametrize("kind", ["here", "processes"])
def test_ctrl_c_which_a_terminal_sends_to_workers_too_is_one_line(folder, interruptible, kind):
    for name in range(COUNT):
        photo(f"photos/{name:02d}.png")
    running = start(kind, 0.3, start_new_session=True)
    assert running.stdout.readline()  # a photo is done
    os.killpg(running.pid, signal.SIGINT)
    _, told = running.communicate(timeout=120)  # of workers too
    assert (running.returncode, told) == (130, "invrecon: interrupted\n")
    assert 0 < len(list(Path("out").glob("*.txt"))) < COUNT
    assert {path.read_text().splitlines()[1] for path in Path("out").glob("*.txt")} == {"whole"}
    assert not [path for path in Path("out").iterdir() if path.suffix == ".tmp"]
