"""What many photos cost besides the work itself: `python -m tests.cluster.scaling WHAT [COUNT]`, on Linux.

WHAT is one of:

- workers: photos a second of the plain command, of two worker processes, and of 1 and 2 workers of Ray, where
  a photo is a second of sleep. A worker's pace is taken between the ends of its first photo and of its
  last, by the times in their notes; what was before is start-up.
- many: memory of the driver of two workers of Ray, for inputs that take no time, with the first and with a
  thousand of them done; then it is stopped.
- left: time and memory to find out that all inputs are done, which have three files each, by their notes.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

from invrecon.cli.reconstruct import _Reconstruct
from invrecon.cli.results import JSON_FIELDS
from invrecon.cluster.listing import Lister
from invrecon.cluster.notes import Notebook, Notes, read_notes
from invrecon.cluster.planning import Planner
from invrecon.cluster.store import Store
from invrecon.models.cards import card_settings
from invrecon.settings import load_settings
from tests.cli.fakes import photo
from tests.cluster.killing import start

ENOUGH = 1000  # photos done
SECONDS = 1.0  # of a simulated photo
WAYS = {"plain": ("here", 1), "two processes": ("processes", 2), "Ray, 1": ("ray", 1), "Ray, 2": ("ray", 2)}


def main(what, count=""):
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.chdir(folder)
        {"workers": compare_workers, "many": list_many, "left": find_left}[what](*filter(None, [count]))


def compare_workers(count=40):
    make_photos(int(count))
    plain = None
    for name, (kind, workers) in WAYS.items():
        done = watch(kind, SECONDS, workers)
        each = sorted([at for at, who in done if who == one] for one in {who for _, who in done})
        pace = sum((len(own) - 1) / (own[-1] - own[0]) for own in each)
        plain = plain or pace
        told = f"{pace:.3f} photos/s by {len(each)}, for each {pace / plain / workers:.3f} of plain"
        first, last = each[0][0] - SECONDS, each[-1][0] - SECONDS
        print(
            f"{name}: {told}; the first begins after {first:.1f} s, the last after {last:.1f} s", flush=True
        )


def list_many(count=100_000):
    make_photos(int(count))
    running = start("ray", 0, "", 2)
    for done, _ in enumerate(running.stdout, 1):
        if done in (1, ENOUGH):
            print(f"{count} listed, {done} done: the driver has taken {memory_of(running)} kB", flush=True)
        if done == ENOUGH:
            break
    running.send_signal(signal.SIGINT)
    running.wait()


def memory_of(process):
    """The most that a running process has taken, kB."""
    return int(Path(f"/proc/{process.pid}/status").read_text().partition("VmHWM:")[2].split()[0])


def watch(kind, seconds, workers):
    """(Seconds after which each photo was done, who did it) of a run."""
    out = f"out-{kind}-{workers}"
    begun, running = time.time(), start(kind, seconds, "", workers, out)
    for line in running.stdout:
        assert json.loads(line)["error"] is None, line
    assert running.wait() == 0, running.stderr.read()
    notes = read_notes(Store(out), Store(out).names()).values()
    return sorted((note["at"] - begun, note["figures"]["worker"]) for note in notes)


def find_left(count=100_000):
    make_photos(int(count))
    note_all()
    command = "invrecon reconstruct photos -r --out out --resume --keep-tree --json --model mini"
    begun = time.monotonic()
    told = subprocess.run([sys.executable, "-m", *command.split()], capture_output=True, check=True).stdout
    wall, used = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert told.count(b'"resumed": true') == int(count)
    cpu = used.ru_utime + used.ru_stime
    print(f"{count} done: {cpu:.1f} s of processor time, {wall:.1f} s by the clock, {used.ru_maxrss} kB")


def note_all():
    """Leaves all photos done, as four shards would."""
    settings, store = load_settings(None, card_settings, model="mini"), Store("out")
    store.make()
    notes = Notes(store, settings, {"seed_dtype": "float32"}, store.names())
    planner = Planner(_Reconstruct(), settings, store, store.names(), notes, keep_tree=True)
    figures = dict.fromkeys(set(JSON_FIELDS) - {"input", "error", "resumed", "guidance_curve"}, 1 / 3)
    planner.plan(list(Lister(recursive=True).sources(["photos"])))
    shards = cycle([[], [], [], []])
    for task, shard in zip(planner.tasks, shards, strict=False):
        for name in task.files.values():
            Path("out", name).parent.mkdir(exist_ok=True)
            Path("out", name).touch()
        source = task.source
        note = {"key": task.key, "input": source.name, "files": task.files, "size": source.size}
        note |= {"stamp": source.stamp}
        shard += [note, note | {"figures": figures, "pack": None, "sha256": "0" * 64}]
    for number in range(4):
        Notebook(store, f"{number}-of-4").add(next(shards))


def make_photos(count):
    content = Path(photo("one.png")).read_bytes()
    for number in range(count):
        path = Path(f"photos/{number // 1000:03d}/{number:06d}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


if __name__ == "__main__":
    main(*sys.argv[1:])
