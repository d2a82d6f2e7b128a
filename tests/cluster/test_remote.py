"""Photos from and results to an address: a real S3 server on this machine."""

import os
import socket
import subprocess
import sys
import tarfile
import time
import urllib.request

import pytest

from invrecon.errors import InputError
from tests.cli.fakes import photo, rows, run

pytest.importorskip("s3fs")
pytest.importorskip("moto")
pytestmark = pytest.mark.filterwarnings("default")  # those of libraries


@pytest.fixture(scope="module")
def server():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-c",
        "from moto.server import main; main()",
        "-H",
        "127.0.0.1",
        "-p",
        str(port),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            urllib.request.urlopen(address, timeout=5).close()
            break
        except OSError:
            time.sleep(0.1)
    yield address
    process.kill()
    process.wait()


@pytest.fixture
def bucket(server, monkeypatch):
    """A fresh bucket, and its file system."""
    import s3fs

    for name, value in (
        ("AWS_ENDPOINT_URL", server), ("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem()
    name = f"b{os.urandom(4).hex()}"
    system.mkdir(name)
    system.put_file(photo("x.png"), f"{name}/in/a/x.png")
    system.put_file("x.png", f"{name}/in/b/y.png")
    system.pipe_file(f"{name}/in/a/x.txt", b"a caption")
    system.pipe_file(f"{name}/in/broken.jpg", b"rubbish")
    yield system, name
    s3fs.S3FileSystem.clear_instance_cache()


def names(system, place):
    system.invalidate_cache()
    return sorted(name.removeprefix(place + "/") for name in system.find(place))


def test_photos_from_s3_to_s3_and_only_once(fake, bucket):
    system, name = bucket
    fake.raises["broken.jpg"] = InputError("isn't a picture")
    options = "-r", "--sidecars", "--keep-tree", "--resume", "--json"
    asked = "reconstruct", f"s3://{name}/in", *options, "--out", f"s3://{name}/out"
    done = run(*asked)
    assert done.exit_code == 1, done.output
    told = {row["input"]: row for row in rows(done)}
    assert [bool(row["error"]) for row in told.values()] == [False, False, True]
    assert told[f"s3://{name}/in/a/x.png"]["output"] == f"s3://{name}/out/a/x.recon.png"
    assert "1 of 3 photos have a caption" in done.stderr
    files = [one for one in names(system, f"{name}/out") if not one.startswith(".")]
    assert files == [f"a/x.{e}" for e in ("compare.png", "recon.png", "seed.safetensors")] + [
        f"b/y.{e}" for e in ("compare.png", "recon.png", "seed.safetensors")
    ]
    again = run(*asked)
    assert [row["resumed"] for row in rows(again)] == [True, True, None]
    assert fake.done.count("x.png") == 1
    system.pipe_file(f"{name}/in/b/y.png", system.cat_file(f"{name}/in/b/y.png") + b" ")  # another ETag
    assert [row["resumed"] for row in rows(run(*asked))] == [True, False, None]
    assert run(*asked, "--verify-bytes").exit_code == 1
    assert fake.done.count("y.png") == 2


def test_hidden_objects_and_results_among_the_photos_are_no_photos(fake, bucket):
    system, name = bucket
    for hidden in ("in/a/.x.png", "in/.trash/y.png"):
        system.copy(f"{name}/in/a/x.png", f"{name}/{hidden}")
    for _ in range(2):
        done = run(
            "reconstruct", f"s3://{name}/in/a", "-r", "--out", f"s3://{name}/in/a/out", "--resume", "--json"
        )
        assert done.exit_code == 0
        assert [row["input"] for row in rows(done)] == [f"s3://{name}/in/a/x.png"]
    assert "2 results of earlier runs among the photos are passed over" in done.stderr
    done = run("invert", f"s3://{name}/in", "-r", "--keep-tree", "--json")
    assert not [row["input"] for row in rows(done) if "/." in row["input"]]


def test_single_addresses_patterns_and_what_is_not_there(fake, bucket):
    _, name = bucket
    done = run(
        "invert", f"s3://{name}/in/a/x.png", f"s3://{name}/in/*/y.png", f"s3://{name}/nosuch.png", "--json",
        "--out", "out",
    )  # fmt: skip
    assert [row["error"] is None for row in rows(done)] == [True, True, False]
    assert sorted(os.listdir("out")) == ["x.seed.safetensors", "y.seed.safetensors"]
    assert "No such file" in done.stderr
    again = run("invert", f"s3://{name}/in/a/x.png", "--out", f"s3://{name}/new")
    assert again.exit_code == 0
    refused = run("invert", f"s3://{name}/in/a/x.png", "--out", f"s3://{name}/new")
    assert "exists; overwrite it with --force" in refused.stderr
    assert run("invert", f"s3://{name}/in/a/x.png", "--out", f"s3://{name}/new", "--force").exit_code == 0
    assert "--recursive" in run("invert", f"s3://{name}/in", "--out", "out").stderr


def test_a_tar_at_an_address_is_read_in_parts(fake, bucket):
    system, name = bucket
    with tarfile.open("set.tar", "w") as tar:
        for member in ("1.png", "2.png"):
            tar.add("x.png", member)
    system.put_file("set.tar", f"{name}/set.tar")
    done = run("invert", f"s3://{name}/set.tar", "--out", f"s3://{name}/out", "--pack", "tar", "--json")
    assert done.exit_code == 0, done.output
    assert [row["input"] for row in rows(done)] == [f"s3://{name}/set.tar/{k}.png" for k in (1, 2)]
    [pack] = names(system, f"{name}/out")
    system.get_file(f"{name}/out/{pack}", "pack.tar")
    with tarfile.open("pack.tar") as tar:
        assert tar.getnames() == ["1.seed.safetensors", "1.json", "2.seed.safetensors", "2.json"]


def test_an_address_without_its_library_names_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    refused = run("invert", "s3://b/x.png")
    assert refused.exit_code == 2
    assert refused.stderr.endswith("pip install 'invrecon[remote]'\n")
    assert len(refused.stderr.splitlines()) == 1


def test_an_unknown_kind_of_address_is_one_line():
    refused = run("invert", "nosuch://b/x.png")
    assert refused.exit_code == 2
    assert len(refused.stderr.splitlines()) == 1


def test_a_bucket_that_is_not_there_takes_no_results(fake, bucket):
    refused = run("invert", photo("x.png"), "--out", "s3://nosuchbucket-x/out")
    assert refused.exit_code in (1, 2)
    assert "can't be reached" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_other_file_systems_get_whole_files_too(fake):
    done = run("invert", photo("x.png"), "--out", f"file://{os.getcwd()}/out", "--resume", "--json")
    assert done.exit_code == 0, done.output
    assert sorted(name for name in os.listdir("out") if not name.startswith(".")) == ["x.seed.safetensors"]
    assert all(name.startswith((".invrecon", "x.")) for name in os.listdir("out"))
    asked = "invert", f"file://{os.getcwd()}/x.png", "--out", "memory://out", "--resume"
    assert [run(*asked).exit_code for _ in range(2)] == [0, 0]
    assert fake.done == ["x.png"] * 2
