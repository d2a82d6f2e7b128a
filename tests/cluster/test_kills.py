"""The driver of a run is killed or interrupted; results are whole, and the same command does what is left."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.cli.fakes import photo
from tests.cluster.killing import COUNT, check_that_kills_lose_nothing, processes, start

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("kind", ["here", "processes"])
def test_the_driver_dies_and_the_same_command_does_the_rest(folder, kind):
    check_that_kills_lose_nothing(kind, kills=2)


@pytest.mark.parametrize("kind", ["here", "processes", "ray"])
def test_ctrl_c_which_a_terminal_sends_to_workers_too_is_one_line(folder, interruptible, kind):
    for name in range(COUNT):
        photo(f"photos/{name:02d}.png")
    if kind == "ray":
        pytest.importorskip("ray")
    running = start(kind, 0.3, start_new_session=True)
    assert running.stdout.readline()  # a photo is done
    os.killpg(running.pid, signal.SIGINT)
    _, told = running.communicate(timeout=120)  # of workers too
    assert (running.returncode, told) == (130, "invrecon: interrupted\n")
    assert 0 < len(list(Path("out").glob("*.txt"))) < COUNT
    assert {path.read_text().splitlines()[1] for path in Path("out").glob("*.txt")} == {"whole"}
    assert not [path for path in Path("out").iterdir() if path.suffix == ".tmp"]
    for _ in range(100):
        if not (left := [told for told in processes(running.pid) if told[0] != "Z"]):
            break
        time.sleep(0.1)
    assert not left
