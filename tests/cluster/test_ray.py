"""A real Ray cluster of two nodes on this machine: workers and nodes die, nothing is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from invrecon.cluster.on_ray import RayEngine
from tests.cli.fakes import run
from tests.cluster import work

ray = pytest.importorskip("ray")
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("default"),  # those of libraries
]


def started(start):
    """What starts a node, which has 30 seconds for it: too few now and then where a machine is busy."""
    for left in (2, 1, 0):
        try:
            return start()
        except Exception:
            if not left:
                raise
    return None


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    ray.cloudpickle.register_pickle_by_value(work)
    cluster = started(lambda: Cluster(initialize_head=True, head_node_args={"num_cpus": 2}))
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def results(out):
    return {path.stem: path.read_text() for path in Path(out).glob("*.txt")}


def test_a_worker_and_a_node_die_and_all_photos_are_done(cluster, tmp_path, folder):
    names = [f"{k:03d}" for k in range(300)]
    for name in names:
        Path(name).touch()
    node = started(lambda: cluster.add_node(num_cpus=1))
    engine = RayEngine(work.plan_for(tmp_path / "out", seconds=0.02), workers=3)
    (tmp_path / "out").mkdir()
    done, killed, removed = [], 0, False
    for rows in engine.do(work.tasks_for(tmp_path, names)):
        done += rows
        if len(done) == 60:
            killed = done[-1]["worker"]
            os.kill(killed, signal.SIGKILL)
        if len(done) == 150:
            cluster.remove_node(node, allow_graceful=False)
            removed = True
    assert killed
    assert removed
    assert sorted(row["number"] for row in done) == list(range(300))
    assert not any(row["error"] for row in done)
    assert sorted(results("out")) == names
    assert len({row["worker"] for row in done}) >= 2


def test_a_photo_that_ends_every_worker_is_given_up_and_the_others_are_done(cluster, tmp_path, folder):
    names = ["a", "b", "deadly", "c", "d"]
    for name in names:
        Path(name).touch()
    (tmp_path / "out").mkdir()
    engine = RayEngine(work.plan_for(tmp_path / "out"), workers=1)
    done = {
        row["input"].rpartition("/")[2]: row
        for rows in engine.do(work.tasks_for(tmp_path, names))
        for row in rows
    }
    assert sorted(done) == sorted(names)
    assert [name for name, row in done.items() if row["error"]] == ["deadly"]
    assert done["deadly"]["worker_died"]


def invrecon(*arguments, **how):
    command = [sys.executable, "-m", "invrecon", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)


def test_the_command_killed_and_repeated_gives_the_bytes_of_a_plain_run(cluster, tmp_path, folder):
    from PIL import Image

    Path("photos").mkdir()
    for k in range(4):
        Image.new("RGB", (64, 64), (60 * k, 90, 200)).save(f"photos/{k}.png")
        Path(f"photos/{k}.txt").write_text(f"colour {k % 2}")
    Path("photos/broken.jpg").write_bytes(b"rubbish")
    settings = "--size", "64", "--steps", "2", "--no-boost", "--batch-size", "1", "--device", "cpu"
    asked = "reconstruct", "photos", "-r", "--sidecars", *settings, "--json"
    on_ray = *asked, "--engine", "ray", "--address", cluster.address, "--workers", "2", "--out", "ray"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    first = invrecon(*on_ray, env=environment)
    first.stdout.readline()  # of broken.jpg
    first.stdout.readline()  # of the first photo that is done
    first.kill()
    first.communicate()
    second = invrecon(*on_ray, env=environment)
    told, errors = second.communicate(timeout=400)
    assert second.returncode == 1, errors
    rows = {row["input"]: row for row in map(json.loads, told.splitlines())}
    assert [name for name, row in rows.items() if row["error"]] == ["photos/broken.jpg"]
    assert len(rows) == 5
    assert sum(bool(row["resumed"]) for row in rows.values()) >= 1
    plain = run(*asked, "--out", "plain")
    assert plain.exit_code == 1
    files = sorted(path.name for path in Path("plain").iterdir())
    assert len(files) == 12
    for name in files:
        assert Path("ray", name).read_bytes() == Path("plain", name).read_bytes(), name


def test_a_cluster_that_is_not_there_is_one_line(tmp_path, folder):
    begun = time.monotonic()
    Path("x.png").write_bytes(b"")
    from PIL import Image

    Image.new("RGB", (16, 16)).save("x.png")
    asked = invrecon("invert", "x.png", "--engine", "ray", "--address", "127.0.0.1:1", env=os.environ)
    _, told = asked.communicate(timeout=120)
    assert asked.returncode == 2
    assert "no Ray cluster at 127.0.0.1:1" in told
    assert len(told.splitlines()) == 1
    assert time.monotonic() - begun < 100


def test_ray_that_is_not_installed_names_the_cure(monkeypatch, fake):
    from tests.cli.fakes import photo

    monkeypatch.setitem(sys.modules, "ray", None)
    refused = run("invert", photo("x.png"), "--engine", "ray")
    assert refused.exit_code == 2
    assert refused.stderr == "invrecon: --engine ray needs Ray: pip install 'invrecon[ray]'\n"
    assert "--engine ray" in run("invert", "x.png", "--workers", "2").stderr
