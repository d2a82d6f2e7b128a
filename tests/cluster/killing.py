"""Kills the driver of a run at random moments, and looks at what the same command makes of it."""

import json
import os
import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from invrecon.cluster.notes import read_notes
from invrecon.cluster.store import Store
from tests.cli.fakes import photo

ROOT = Path(__file__).parents[2]
COUNT = 40


def start(kind, seconds, *more, **popen):
    return launch("tests.cluster.driver", kind, seconds, *more, **popen)


def launch(module, *more, **popen):
    command = [sys.executable, "-m", module, *map(str, more)]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, **pipes, **popen)


def processes(session):
    """Of each process of a session, what Linux tells in /proc/PID/stat from its state on."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            told = path.read_text().rpartition(")")[2].split()
            if int(told[3]) == session:
                yield told


def done():
    """Names of photos that notes say are done."""
    store = Store("out")
    notes = read_notes(store, store.names()) if Path("out").exists() else {}
    return {note["input"] for note in notes.values() if "figures" in note}


def check_that_kills_lose_nothing(kind, *address, kills, seconds=0.3):
    """A kill is SIGKILL to the driver alone, a random while after its first result. All is in this folder."""
    number = random.randrange(10**6)
    drawn = random.Random(number)
    print("drawn from", number)  # shown where the test fails
    for name in range(COUNT):
        photo(f"photos/{name:02d}.png")
    for _ in range(kills):
        before = len(done())
        running = start(kind, seconds, *address)
        while len(done()) == before and running.poll() is None:
            time.sleep(0.01)
        time.sleep(drawn.random() * 4 * seconds)
        assert running.poll() is None, running.communicate()
        running.kill()
        running.communicate()
    known = done()
    assert known
    last = start(kind, seconds, *address)
    told, errors = last.communicate(timeout=300)
    rows = [json.loads(line) for line in told.splitlines()]
    assert (last.returncode, errors) == (0, "")
    assert sorted(row["input"] for row in rows) == [f"photos/{name:02d}.png" for name in range(COUNT)]
    assert known <= {Path(row["input"]).name for row in rows if row["resumed"]}
    assert len(known) < COUNT
    for name in range(COUNT):
        first, last_line = Path(f"out/{name:02d}.txt").read_text().splitlines()
        assert first.isdigit()
        assert last_line == "whole"
    assert len(done()) == COUNT
