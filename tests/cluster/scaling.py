"""What many photos cost besides the work itself: `python -m tests.cluster.scaling WHAT [COUNT]`, on Linux.

WHAT is one of:

- workers: photos a second of the plain command, of two worker processes, and of 1 and 2 workers of Ray, where
  a photo is a second of sleep. A worker's pace is taken between the ends of its first photo and of its last,
  by its notes; what was before is start-up. Processor time is that of all processes, from when each worker
  has done a photo.
- photos: the same for cut-outs of the samples, with one thread a worker.
- many: memory of the driver of two workers of Ray, for inputs that take no time, with the first and with a
  thousand of them done; then it is stopped.
- left: time and memory to find out that all inputs are done, which have three files each, by their notes.
"""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from invrecon.cli.reconstruct import _Reconstruct
from invrecon.cli.results import JSON_FIELDS
from invrecon.cluster.listing import Lister
from invrecon.cluster.notes import Notebook, Notes, is_notes
from invrecon.cluster.planning import Planner
from invrecon.cluster.store import Store
from invrecon.models.cards import card_settings
from invrecon.settings import load_settings
from tests.cli.fakes import photo
from tests.cluster.killing import ROOT, launch, processes, start

ENOUGH = 1000  # photos done
SECONDS = 1.0  # of a simulated photo
WAYS = {"plain": ("here", 1), "two processes": ("processes", 2), "Ray, 1": ("ray", 1), "Ray, 2": ("ray", 2)}
ENGINES = {"here": "cpu", "processes": "cpu,cpu", "ray": "cpu --engine ray --workers"}
QUICK = "reconstruct photos -r --model mini --size 128 --steps 10 --no-boost --batch-size 1 --resume --json"


def main(what, count=""):
    os.environ["OMP_NUM_THREADS"] = "1"
    ways = {"workers": compare_workers, "photos": compare_photos, "many": list_many, "left": find_left}
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.chdir(folder)
        ways[what](*filter(None, [count]))


def compare_workers(count=40):
    make_photos(int(count))
    compare(lambda kind, workers, out: start(kind, SECONDS, "", workers, out, start_new_session=True))


def compare_photos(count=30):
    cut_samples(int(count))

    def run(kind, workers, out):
        engine = ENGINES[kind] + f" {workers}" * (kind == "ray")
        return launch("invrecon", *f"{QUICK} --out {out} --device {engine}".split(), start_new_session=True)

    compare(run)


def compare(run):
    """Prints the pace of each way; `run(kind, workers, out)` starts it, in a session of its own."""
    plain = None
    for name, (kind, workers) in WAYS.items():
        begun, out = time.time(), f"out-{kind}-{workers}"
        processor = watch(run(kind, workers, out), workers, out)
        each = by_worker(out)
        pace = sum((len(own) - 1) / (own[-1][1] - own[0][1]) for own in each)
        plain = plain or pace
        first, last = each[0][0][0] - begun, each[-1][0][0] - begun
        print(
            f"{name}: {pace:.3f} photos/s, for each worker {pace / plain / workers:.3f} of plain; "
            f"{processor:.2f} s of processor time for each photo; "
            f"the first begins after {first:.1f} s, the last worker's after {last:.1f} s",
            flush=True,
        )


def watch(running, workers, out):
    """Processor time for each photo of a run, s."""
    used = {}
    while running.returncode is None:
        each = by_worker(out)
        if len(each) == workers:
            used.setdefault(sum(map(len, each)), processor_time(running.pid))
        with suppress(subprocess.TimeoutExpired):
            told, errors = running.communicate(timeout=0.1)
    assert running.returncode == 0, errors
    assert not [line for line in told.splitlines() if json.loads(line)["error"]]
    (first, before), *_, (last, after) = used.items()
    return (after - before) / (last - first)


def by_worker(out):
    """(Begin, end) of the photos that each worker has done, by its notes."""
    each, store = [], Store(out)
    for _, content in store.read(list(filter(is_notes, store.names().top()))):
        lines = content[: content.rfind(b"\n") + 1].splitlines()
        notes = [note for note in map(json.loads, lines) if "figures" in note]
        each.append([(note["at"] - note["figures"]["seconds"], note["at"]) for note in notes])
    return sorted(filter(None, each))


def processor_time(session):
    """Of all processes of a session, and of those that they have seen end, s."""
    ticks = sum(int(ticks) for told in processes(session) for ticks in told[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


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


def find_left(count=100_000):
    make_photos(int(count))
    note_all()
    command = "reconstruct photos -r --out out --resume --keep-tree --json --model mini"
    begun = time.monotonic()
    told, _ = launch("invrecon", *command.split()).communicate()
    wall, used = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert told.count('"resumed": true') == int(count)
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


def cut_samples(count):
    """Squares of the samples as photos, the same ones each time."""
    drawn = random.Random(count)
    pictures = [Image.open(path).convert("RGB") for path in sorted(ROOT.glob("samples/*.jpg"))]
    Path("photos").mkdir()
    for number in range(count):
        picture = pictures[number % len(pictures)]
        side = drawn.randint(128, min(picture.size))
        left, top = (drawn.randint(0, length - side) for length in picture.size)
        picture.crop((left, top, left + side, top + side)).save(f"photos/{number:03d}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
