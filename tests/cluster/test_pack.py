"""`--pack tar`: WebDataset tars in place of files, whole after a kill as well."""

import json
import os
import tarfile
from pathlib import Path

import pytest

from invrecon.cluster.pack import Pack, salvage
from invrecon.cluster.store import Store
from tests.cli.fakes import photo, rows, run


def members(path):
    with tarfile.open(path) as tar:
        return tar.getnames()


def test_results_lie_in_one_tar_and_are_taken_over(fake):
    inputs = [photo(name) for name in ("a.png", "my.photo.png")]
    asked = "reconstruct", *inputs, "--pack", "tar", "--out", "out", "--resume", "--json"
    done = run(*asked)
    assert done.exit_code == 0, done.output
    [pack] = [name for name in os.listdir("out") if name.endswith(".tar")]
    assert members(f"out/{pack}") == [
        f"{key}.{ending}"
        for key in ("a", "my_photo")
        for ending in ("recon.png", "seed.safetensors", "compare.png", "json")
    ]
    assert rows(done)[0]["output"] == f"out/{pack}/a.recon.png"
    with tarfile.open(f"out/{pack}") as tar:
        assert json.load(tar.extractfile("a.json"))["psnr"] == 30
    assert all(row["resumed"] for row in rows(run(*asked)))
    Path(f"out/{pack}").unlink()
    assert not any(row["resumed"] for row in rows(run(*asked)))
    assert len([name for name in os.listdir("out") if name.endswith(".tar")]) == 1
    assert not [name for name in os.listdir("out") if name.endswith(".part")]


@pytest.mark.filterwarnings("default")  # it leaves files open
def test_webdataset_reads_what_is_packed(fake):
    wds = pytest.importorskip("webdataset")
    assert run("invert", photo("a.png"), photo("b.png"), "--pack", "tar", "--out", "out").exit_code == 0
    [pack] = os.listdir("out")
    samples = list(wds.WebDataset(f"out/{pack}", shardshuffle=False))
    assert [(one["__key__"], set(one) - {"__key__", "__url__", "__local_path__"}) for one in samples] == [
        (key, {"seed.safetensors", "json"}) for key in "ab"
    ]


def grown(store, count, size):
    """A tar that its writer left open, with some results and their ends in it."""
    pack, ends = Pack(store), []
    for number in range(count):
        Path("x").write_bytes(os.urandom(size))
        pack.add({f"{number}.png": Path("x")}, f"{number}.json", {"psnr": number})
        ends.append(os.path.getsize(pack._part))
    pack._file.close()
    return pack, ends


@pytest.mark.parametrize("cut", [0, 1, 511, 512, 600, 2000])
def test_a_tar_whose_writer_was_killed_keeps_all_results_that_are_whole(tmp_path, folder, cut):
    store = Store(str(tmp_path))
    pack, ends = grown(store, 3, 700)
    os.truncate(pack._part, ends[-1] - cut)
    [name] = salvage(store, store.names())
    assert name == pack.name
    whole = 3 if cut == 0 else 2
    assert members(tmp_path / name) == [f"{k}.{e}" for k in range(whole) for e in ("png", "json")]
    assert salvage(store, store.names()) == []


def test_a_tar_whose_writer_lives_is_left_alone(tmp_path, folder):
    store = Store(str(tmp_path))
    pack = Pack(store)
    Path("x").write_bytes(b"1")
    pack.add({"a.png": Path("x")}, "a.json", {})
    assert salvage(store, store.names()) == []
    pack.close()
    assert members(next(tmp_path.glob("*.tar"))) == ["a.png", "a.json"]


def test_a_full_tar_is_followed_by_another(tmp_path, folder):
    pack = Pack(Store(str(tmp_path)), max_bytes=2000)
    Path("x").write_bytes(bytes(1500))
    told = [pack.add({f"{k}.png": Path("x")}, f"{k}.json", {}) for k in range(2)]
    pack.close()
    assert len(set(told)) == 2
    assert sorted(path.name for path in tmp_path.glob("*.tar")) == sorted(told)


@pytest.mark.parametrize(
    ("option", "value"), [("--pack", "zip"), ("--engine", "spark"), ("--seed-dtype", "x")]
)
def test_other_words_are_refused(option, value):
    refused = run("invert", "x.png", option, value)
    assert refused.exit_code == 2
    assert f"{option} must be" in refused.stderr
