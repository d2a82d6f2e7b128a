"""Ctrl-C in a process of its own: one line and 130, whatever swallows exceptions."""

import os
import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import sys, time
from pathlib import Path
from invrecon.cli.interrupt import end_on_interrupt
from invrecon.muted import muted
from invrecon.writing import replacing

end_on_interrupt()

def stubborn():
    while True:
        try:
            time.sleep(0.01)
        except BaseException:
            pass

def ready():
    print("ready", flush=True)

class Callback:
    def __del__(self):
        ready()
        stubborn()

{body}
"""
BODIES = {
    "swallowed": "ready()\nstubborn()",
    "in a callback": "Callback()",
    "while stderr is muted": "with muted():\n    ready()\n    stubborn()",
    "while a file is written": (
        "with replacing(Path('a.txt')) as partial:\n    partial.write_text('half')\n    ready()\n"
        "    stubborn()"
    ),
    "while it ends": "import atexit\natexit.register(stubborn)\natexit.register(ready)",
}


pytestmark = pytest.mark.usefixtures("interruptible")


def interrupted(process):
    """What a process prints that is interrupted now."""
    process.send_signal(signal.SIGINT)
    try:
        return process.communicate(timeout=20)
    finally:
        process.kill()


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_an_interrupt_ends_the_process_at_once(tmp_path, body):
    command = [sys.executable, "-c", PROGRAM.format(body=body)]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        _, told = interrupted(process)
    assert (process.returncode, told) == (130, "invrecon: interrupted\n")
    assert os.listdir(tmp_path) == []


def test_the_program_is_interrupted_while_it_imports_and_loads(tmp_path, photo):
    command = [sys.executable, "-m", "invrecon", "reconstruct", str(photo), "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "out").exists():
            time.sleep(0.01)
        assert interrupted(process) == ("", "invrecon: interrupted\n")
    assert process.returncode == 130
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize("arguments", [["--version"], ["invert", "nosuch.png"]], ids=" ".join)
def test_the_program_is_interrupted_until_it_has_ended(tmp_path, arguments):
    """It doesn't leave its end to the interpreter, which gives SIGINT back to the system on the way."""
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, os, sys, time\n"
        "class Late:\n"
        "    def __del__(self, write=os.write, sleep=time.sleep):\n"
        "        write(1, b'late\\n'); sleep(20)\n"
        "sys.late = Late()\n"
        "def ready(): os.write(1, b'ready\\n'); time.sleep(0.5)\n"
        "atexit.register(ready)\n"
    )
    command = [sys.executable, "-m", "invrecon", *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    for late in (True, False):
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        ) as process:
            while (line := process.stdout.readline()) != "ready\n":
                assert line
            told = process.communicate(timeout=20) if late else interrupted(process)
        assert "late" not in told[0]
        assert (process.returncode == 130) == told[1].endswith("invrecon: interrupted\n") == (not late)


@pytest.mark.parametrize("wait", [0.0, 0.5])
def test_worker_processes_say_nothing_of_it_and_end(tmp_path, wait):
    """Ctrl-C in a terminal reaches them too, while they begin."""
    body = """
import time
from tests.cluster.work import plan_for, tasks_for
from invrecon.cluster.processes import Processes

class Told(Processes):
    def _start(self, device):
        started.append(super()._start(device))
        if len(started) == 2:
            ready()
        return started[-1]

started = []

if __name__ == "__main__":
    list(Told(plan_for(Path("out"), 30.0), ["cpu", "cpu"]).do(tasks_for(Path("."), ["a.png", "b.png"])))
"""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.format(body=body))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "ready\n"
        time.sleep(wait)
        os.killpg(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=60)  # which waits for all that hold its pipes
    assert (process.returncode, told) == (130, "invrecon: interrupted\n")


def test_an_interrupt_that_is_ignored_stays_ignored(tmp_path):
    body = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nready()"
    ignoring = PROGRAM.format(body=body).replace(
        "end_on_interrupt()\n\ndef",
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nend_on_interrupt()\n\ndef",
    )
    done = subprocess.run([sys.executable, "-c", ignoring], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ready\n", "")
