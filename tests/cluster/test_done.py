"""What counts as done: by settings and size, time or bytes, with any split of the work, in one folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from invrecon.cluster.notes import Notebook, count_deaths, read_notes
from invrecon.cluster.processes import Processes
from invrecon.cluster.source import Source
from invrecon.cluster.store import Store
from invrecon.cluster.task import Task
from invrecon.cluster.worker import Plan, Worker
from invrecon.errors import InvreconError, UsageError
from invrecon.settings import Settings
from tests.cli.fakes import photo, rows, run
from tests.cluster import work

PHOTOS = [f"set/{letter}.png" for letter in "abcdefgh"]


@pytest.fixture
def photos():
    return [photo(name) for name in PHOTOS]


def test_shards_part_the_inputs_and_share_a_folder(fake, photos):
    parts = []
    for index in range(3):
        done = run("invert", "set", "-r", "--out", "out", "--shard", f"{index}/3", "--json")
        assert done.exit_code == 0
        parts.append([row["input"] for row in rows(done)])
    assert sorted(name for part in parts for name in part) == PHOTOS
    assert sorted(fake.done) == sorted(Path(name).name for name in PHOTOS)
    photo("set/0new.png")  # an addition moves nothing
    again = [run("invert", "set", "-r", "--out", "out", "--shard", f"{k}/3", "--json") for k in range(3)]
    assert len(fake.done) == len(PHOTOS) + 1
    for before, after in zip(parts, again, strict=True):
        assert set(before) <= {row["input"] for row in rows(after)}
    whole = run("invert", "set", "-r", "--out", "out", "--resume", "--json")
    assert all(row["resumed"] for row in rows(whole))


def test_to_find_what_is_left_the_libraries_of_models_are_not_imported():
    asked = "import sys, invrecon.models as m; m.model_contents('mini'); print('diffusers' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"


def test_of_photos_with_the_same_results_each_shard_knows_the_same_one(fake):
    names = [photo(f"set/{letter}/x.png") for letter in "abcdefgh"]
    told = [
        rows(run("invert", "set", "-r", "--out", "out", "--shard", f"{k}/3", "--json")) for k in (2, 1, 0)
    ]
    assert all(told)
    errors = {row["input"]: row["error"] for part in told for row in part}
    assert sorted(errors) == names
    assert [name for name, error in errors.items() if error is None] == names[:1]
    assert "take --keep-tree" in errors[names[1]]


def test_a_shard_takes_no_result_of_another_for_an_input(fake, photos):
    for _ in range(2):
        for k in range(3):
            done = run("reconstruct", "set", "-r", "--out", "set", "--shard", f"{k}/3", "--json")
            assert done.exit_code == 0
    assert sorted(fake.done) == sorted(Path(name).name for name in PHOTOS)


@pytest.mark.parametrize("shard", ["3/3", "1", "-1/3", "a/b", "0/0"])
def test_a_shard_that_is_none_is_refused(shard):
    assert run("invert", "x.png", "--shard", shard).exit_code == 2
    assert "as in 0/4" in run("invert", "x.png", "--shard", shard).stderr


def test_an_input_is_done_by_size_and_time_or_by_its_bytes(fake):
    asked = "invert", photo("x.png"), "--resume"
    assert run(*asked).exit_code == 0
    os.utime("x.png", (1, 1))  # as after a copy: the bytes are looked at
    assert run(*asked).exit_code == 0
    assert len(fake.done) == 1
    content, status = bytearray(Path("x.png").read_bytes()), os.stat("x.png")
    content[40] ^= 1
    Path("x.png").write_bytes(content)
    os.utime("x.png", (2, 2))
    assert run(*asked).exit_code == 0  # the file is the same, its bytes are not
    assert len(fake.done) == 2
    content[40] ^= 1
    Path("x.png").write_bytes(content)
    os.utime("x.png", (2, 2))
    assert os.stat("x.png").st_size == status.st_size
    assert run(*asked).exit_code == 0
    assert len(fake.done) == 2
    assert run(*asked, "--verify-bytes").exit_code == 0
    assert len(fake.done) == 3


def test_a_folder_of_results_can_be_moved(fake, photos):
    assert run("reconstruct", *photos, "--out", "out", "--resume").exit_code == 0
    os.rename("out", "elsewhere")
    again = run("reconstruct", *photos, "--out", "elsewhere", "--resume", "--json")
    assert all(row["resumed"] for row in rows(again))
    assert "out/" not in Path("elsewhere/.invrecon.jsonl").read_text()


def test_notes_of_many_writers_are_read_together_and_a_cut_line_is_none(tmp_path):
    store = Store(str(tmp_path))
    first, second = Notebook(store), Notebook(store, "w")
    first.add([{"key": "a", "figures": {"psnr": 1}}, {"key": "b"}])
    second.add([{"key": "b", "error": "no"}, {"key": "a"}])
    with (tmp_path / ".invrecon.jsonl").open("a") as file:
        file.write('{"key": "c", "fig')
    notes = read_notes(store, store.names())
    assert {key: note.get("figures") or note.get("error") for key, note in notes.items()} == {
        "a": {"psnr": 1},
        "b": "no",
    }
    Notebook(store).add([{"key": "d"}])
    lines = (tmp_path / ".invrecon.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == ["a", "b", "d"]
    assert count_deaths(store, "w") == {"a": 1, "b": -1}


def test_failures_stop_a_run(fake, photos):
    fake.raises = {Path(name).name: InvreconError(f"{name}: no") for name in PHOTOS[1:5]}
    done = run("invert", *photos, "--max-failures", "2", "--batch-size", "1", "--json", "--out", "out")
    assert done.exit_code == 1
    assert [row["input"] for row in rows(done)] == PHOTOS[:3]
    assert "stopped after 2 failures (--max-failures); 5 inputs are left undone" in done.stderr
    assert run("invert", "nosuch.png", photos[0], "--max-failures", "1", "--out", "new").exit_code == 1
    assert not os.listdir("new")


def test_each_photo_of_a_batch_has_its_own_prompt(mini, photos):
    from invrecon import pipeline

    own = [Settings(size=64, num_inference_steps=2, boost=False, prompt=text) for text in ("a", "b", "a")]
    together = pipeline.invert_batch(photos[:3], mini, own)
    for photo_, settings, one in zip(photos, own, together, strict=False):
        alone = pipeline.invert(photo_, mini, settings)
        assert one.seed.recipe.prompt == settings.prompt
        assert torch.allclose(one.seed.latents, alone.seed.latents, atol=1e-4)
    assert not torch.allclose(together[0].seed.latents, together[1].seed.latents, atol=1e-4)
    long = [own[0], Settings(size=64, num_inference_steps=2, boost=False, prompt="word " * 200)]
    first, second = pipeline.invert_batch(photos[:2], mini, long)
    assert first.seed.recipe.prompt == "a"
    assert "tokens" in str(second)
    with pytest.raises(UsageError, match="tokens"):
        pipeline.invert_batch(photos[:2], mini, long[1])


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_a_cluster_that_is_not_there_is_one_line(fake, address):
    refused = run("invert", photo("x.png"), "--engine", "ray", "--address", address, "--out", "out")
    assert refused.exit_code == 4
    assert refused.stderr.startswith(f"invrecon: no Ray cluster at {address} (")
    assert refused.stderr.endswith("; check --address, or leave it out to start a cluster of this machine\n")
    assert len(refused.stderr.splitlines()) == 1
    assert not os.listdir("out")


@pytest.mark.parametrize(("begun", "error"), [(1, "has come to be meanwhile"), (2, None)])
def test_a_file_that_came_meanwhile_is_kept_unless_another_run_is_at_the_same_input(tmp_path, begun, error):
    """As by a worker that outlived its driver."""
    [task] = tasks_for(["a.png"])
    plan = work.plan_for(tmp_path)
    Notebook(plan.store, "another").add([{"key": task.key}] * (begun - 1))
    (tmp_path / "a.png.txt").write_text("another's")
    [[row]] = Worker(plan).do([task])
    assert (error in row["error"]) if error else (row["error"] is None)
    assert (tmp_path / "a.png.txt").read_text() == ("another's" if error else f"{os.getpid()}\nwhole\n")


class Crowded:
    """A job that the memory holds for `most` photos at once."""

    fields = ("input",)

    def __init__(self, most, tried):
        self.most, self.tried = most, tried

    def name_files(self, source):
        return {"output": f"{source.stem}.txt"}

    def run(self, inputs, model, settings, on_progress):
        self.tried.append(len(inputs))
        if len(inputs) > self.most or any("huge" in path.name for path in inputs):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return [path.name for path in inputs]

    def keep(self, result, files, save):
        files["output"].write_text(result)
        return {"psnr": 30.0}


def tasks_for(names):
    sources = [Source(photo(name), name, size=1, stamp="1") for name in names]
    return [
        Task(k, one, {"output": f"{one.name}.txt"}, "", "float32", False, one.name)
        for k, one in enumerate(sources)
    ]


def test_a_batch_that_the_memory_does_not_hold_is_halved_and_the_worker_lives(monkeypatch, tmp_path):
    import invrecon.pipeline

    monkeypatch.setattr(invrecon.pipeline, "batch_size", lambda *a: 8)
    tried = []
    worker = Worker(Plan(Crowded(2, tried), Settings(), Store(str(tmp_path)), load=lambda *_: None))
    tasks = tasks_for(["a", "b", "c", "huge", "e", "f", "g", "h"])
    done = [row for batch in worker.do(tasks) for row in batch]
    assert [row["error"] is None for row in done] == [True] * 3 + [False] + [True] * 4
    assert "the memory doesn't hold it" in done[3]["error"]
    assert tried == [8, 4, 2, 2, 1, 1, 4, 2, 2]
    assert len(list(worker.do(tasks_for(["x"])))) == 1


@pytest.mark.parametrize("devices", ["cpu,", "gpu,cpu", "cuda:x", "cpu;cpu"])
def test_devices_that_are_none_are_refused(devices):
    refused = run("invert", "x.png", "--device", devices)
    assert refused.exit_code == 2
    assert "cuda" in refused.stderr


def test_several_devices_are_for_commands_that_take_many_photos():
    refused = run("verify", "x.seed.safetensors", photo("x.png"), "--device", "cpu,cpu")
    assert refused.exit_code in (1, 2)
    assert len(refused.stderr.splitlines()) == 1


def test_workers_that_die_are_started_anew_and_a_deadly_photo_is_given_up(tmp_path):
    names = ["a", "deadly", "c", "d"]
    for name in names:
        (tmp_path / name).touch()
    workers = Processes(work.plan_for(tmp_path), ["cpu"])
    done = [row for rows in workers.do(work.tasks_for(tmp_path, names)) for row in rows]
    assert sorted((row["number"], row["error"] is None) for row in done) == [
        (0, True), (1, False), (2, True), (3, True),
    ]  # fmt: skip
    [row] = [row for row in done if row["error"]]
    assert "3 workers died with it" in row["error"]
    assert row["worker_died"]
