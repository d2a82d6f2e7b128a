"""Inputs as people have them: folders, lists, patterns, tars; and captions of each kind."""

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from invrecon.cluster.captions import Captions, parse_metadata, read_captions
from invrecon.cluster.listing import Lister
from invrecon.errors import UsageError
from tests.cli.fakes import photo, rows, run


def listed(*named, **how):
    return list(Lister(**how).sources(named))


def data_set():
    """Two photos of one name, one with an odd ending, and what else lies beside photos."""
    for name in ("set/b/x.png", "set/a/x.png", "set/a/deep/y.jpg", "set/noending"):
        photo(name)
    Path("set/a/x.txt").write_text("a red\n square\n")
    Path("set/notes.md").write_text("about")
    Path("set/script").write_text("#!/bin/sh")
    Path("set/.hidden.png").write_bytes(b"")
    Path("set/broken.jpg").write_bytes(b"rubbish")
    os.symlink("nowhere.jpg", "set/gone.jpg")


def test_a_folder_gives_its_photos_by_name_and_counts_the_rest():
    data_set()
    lister = Lister(recursive=True)
    names = [source.name for source in lister.sources(["set"])]
    assert names == ["a/deep/y.jpg", "a/x.png", "b/x.png", "broken.jpg", "gone.jpg", "noending"]
    assert lister.passed_over == 3  # x.txt, notes.md, script


def test_what_cannot_be_read_in_a_folder_is_an_error_and_the_others_are_done(fake):
    data_set()
    done = run("invert", "set", "-r", "--keep-tree", "--out", "out", "--json")
    assert done.exit_code == 1
    assert {row["input"]: row["error"] is None for row in rows(done)} == {
        "set/a/deep/y.jpg": True, "set/a/x.png": True, "set/b/x.png": True, "set/broken.jpg": False,
        "set/gone.jpg": False, "set/noending": True,
    }  # fmt: skip
    assert "3 files that aren't photos are passed over" in done.stderr
    assert Path("out/a/x.seed.safetensors").exists()
    assert Path("out/b/x.seed.safetensors").exists()


def test_photos_of_one_name_collide_before_any_work_unless_the_tree_is_kept(fake):
    data_set()
    for unusable in ("set/broken.jpg", "set/gone.jpg"):
        os.unlink(unusable)
    refused = run("invert", "set", "-r", "--out", "out", "--json")
    assert [row["error"] is None for row in rows(refused)] == [True, True, False, True]
    assert "rename it, take --keep-tree, or" in refused.stderr
    for refused in (  # where the tree doesn't tell them apart
        run("invert", "set/a", "set/b", "-r", "--out", "roots"),
        run("invert", "set/a/x.png", photo("set/a/x.jpg"), "--out", "endings"),
    ):
        assert "rename it or" in refused.stderr
    tree = run("invert", "set/a/x.png", "set/b/x.png", "--keep-tree", "--out", "tree")
    assert tree.exit_code == 0
    assert Path("tree/set/a/x.seed.safetensors").exists()


def test_a_folder_without_recursive_is_an_error_that_names_it(fake):
    data_set()
    refused = run("invert", "set")
    assert refused.exit_code == 1
    assert "--recursive" in refused.stderr
    assert run("invert", "set", "--recursive", "--keep-tree", "--out", "out").exit_code == 1  # broken.jpg


def test_lists_and_patterns(fake, monkeypatch):
    data_set()
    Path("list.txt").write_bytes(b"set/a/x.png\n\nset/a/deep/y.jpg\n")
    assert run("invert", "--from", "list.txt", "--out", "one").exit_code == 0
    assert sorted(os.listdir("one")) == ["x.seed.safetensors", "y.seed.safetensors"]
    assert [source.address for source in listed("set/*/x.png")] == ["set/a/x.png", "set/b/x.png"]
    assert run("invert").exit_code == 2
    assert "--from" in run("invert", "--from", "nosuch.txt").stderr
    photo("odd[1].png")
    assert [source.address for source in listed("odd[1].png")] == ["odd[1].png"]


def test_a_list_comes_from_standard_input(fake):
    from typer.testing import CliRunner

    from invrecon.cli.app import app

    photo("x.png")
    done = CliRunner().invoke(app, ["invert", "--from", "-", "--json"], input="x.png\n")
    assert done.exit_code == 0
    assert fake.done == ["x.png"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lists_that_windows_wrote(fake, tmp_path, encoding):
    for name in ("ä.png", "b.png"):
        photo(name)
    Path("list.txt").write_bytes("ä.png\r\n\r\nb.png\r\n".encode(encoding))
    done = run("invert", "--from", "list.txt", "--out", "out", "--json")
    assert [row["input"] for row in rows(done)] == ["ä.png", "b.png"]
    assert done.exit_code == 0


def test_results_among_the_photos_are_not_taken_for_photos(fake):
    photo("set/x.png")
    for _ in range(2):
        done = run("reconstruct", "set", "-r", "--out", "set", "--resume", "--json")
        assert done.exit_code == 0
        assert [row["input"] for row in rows(done)] == ["set/x.png"]
    assert "2 results of earlier runs among the photos are passed over" in done.stderr


def captioned(name, **how):
    [source] = [one for one in listed("set", recursive=True, captions=Captions(**how)) if one.name == name]
    return source.prompt


def test_captions_by_precedence():
    data_set()
    photo("set/a/z.png")
    assert captioned("a/x.png") is None
    assert captioned("a/x.png", sidecars=True) == "a red square"
    assert captioned("b/x.png", sidecars=True) is None
    Path("set/metadata.jsonl").write_text(
        "\n".join(
            json.dumps(row)
            for row in (
                {"file_name": "a/x.png", "text": "by metadata"},
                {"file_name": "a/z.png", "text": "z", "width": 3},
                {"file_name": "b/x.png"},
            )
        )
    )
    assert captioned("a/x.png", sidecars=True) == "by metadata"
    assert captioned("a/z.png", sidecars=True) == "z"
    assert captioned("b/x.png", sidecars=True) is None
    Path("set/a/metadata.jsonl").write_text('{"file_name": "x.png", "text": "nearer"}\n')
    assert captioned("a/x.png", sidecars=True) == "nearer"
    assert captioned("a/x.png", sidecars=True, table={"a/x.png": "told"}) == "told"
    assert captioned("a/x.png", table={"x": "by stem"}) == "by stem"


def test_a_prompt_comes_before_all_captions_and_captions_are_part_of_what_is_done(fake):
    data_set()
    asked = "invert", "set/a/x.png", "--sidecars", "--resume"
    assert run(*asked).exit_code == 0
    assert [one.prompt for one in fake.settings] == ["a red square"]
    assert run(*asked).exit_code == 0
    assert len(fake.done) == 1
    Path("set/a/x.txt").write_text("another")
    assert "exists" in run(*asked).stderr
    assert run(*asked, "--prompt", "mine", "--out", "out").exit_code == 0
    assert fake.settings.prompt == "mine"


@pytest.mark.parametrize(
    "line", ["[]", "{", '{"file_name": 1, "text": "a"}', '{"file_name": "a", "text": 1}', '{"text": "a"}']
)
def test_metadata_that_is_none_ends_the_run_with_its_line(fake, line):
    photo("x.png")
    Path("metadata.jsonl").write_text('{"file_name": "x.png", "text": "a"}\n' + line)
    refused = run("invert", "x.png", "--sidecars")
    assert refused.exit_code == 2
    assert "metadata.jsonl, line 2: isn't a JSON object with file_name and text" in refused.stderr
    Path("metadata.jsonl").write_text('{"file_name": "x.png", "text": "a"}\n')
    assert run("invert", "x.png", "--sidecars").exit_code == 0


def test_a_caption_that_is_no_text_is_its_photos_error(fake):
    for name in ("x.png", "y.png"):
        photo(name)
    Path("x.txt").write_bytes(b"\xff\xfe")
    done = run("invert", "x.png", "y.png", "--sidecars", "--json")
    assert [row["error"] is None for row in rows(done)] == [False, True]
    assert "its caption x.txt isn't UTF-8" in done.stderr


def test_files_of_captions(tmp_path):
    for name, text in (
        ("c.json", '{"x": "a"}'),
        ("c.toml", 'x = "a"'),
        ("c.jsonl", '{"file_name": "x", "text": "a"}'),
    ):
        path = tmp_path / name
        path.write_text(text)
        assert read_captions(path) == {"x": "a"}
    with pytest.raises(UsageError, match="No such file"):
        read_captions(tmp_path / "d.jsonl")
    assert parse_metadata(b'\xef\xbb\xbf{"file_name": "./x.png", "text": "a"}\n\n', "m") == {"x.png": "a"}
    line = '{"file_name": "x.png", "text": "a\u2028b"}\r\n'  # a line of its own for Unicode, not for JSON
    assert parse_metadata(line.encode(), "m") == {"x.png": "a\u2028b"}


def make_tar(path, **members):
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name.replace("__", "."))
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def test_members_of_a_tar_are_photos_with_the_captions_beside_them(fake):
    content = Path(photo("x.png")).read_bytes()
    make_tar("shard.tar", a__png=content, a__txt=b"one", b__png=content, b__json=b"{}")
    done = run("invert", "shard.tar", "--sidecars", "--keep-tree", "--out", "out", "--resume", "--json")
    assert done.exit_code == 0
    assert [row["input"] for row in rows(done)] == ["shard.tar/a.png", "shard.tar/b.png"]
    assert sorted(os.listdir("out/shard")) == ["a.seed.safetensors", "b.seed.safetensors"]
    assert fake.done == ["a.png", "b.png"]
    assert run("invert", "shard.tar", "--sidecars", "--keep-tree", "--out", "out", "--resume").exit_code == 0
    assert len(fake.done) == 2


def test_hidden_members_of_a_tar_are_no_photos():
    members = {
        "._a__png": b"for macOS",
        "./.b__png": b"",
        ".c/d__png": b"",
        "./e__png": b"",
        "f/..g__png": b"",
    }
    make_tar("shard.tar", **members)
    lister = Lister()
    assert [source.name for source in lister.sources(["shard.tar"])] == ["shard/e.png"]
    assert lister.passed_over == 0


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [("x.tar", b"rubbish" * 200, "isn't a whole tar"), ("x.tar.gz", b"", "decompress it first")],
)
def test_tars_that_cannot_be_read_are_told(fake, name, content, cause):
    Path(name).write_bytes(content)
    done = run("invert", name, photo("y.png"), "--json")
    assert [row["error"] is None for row in rows(done)] == [False, True]
    assert cause in done.stderr


def test_a_member_whose_name_leads_out_of_the_folder_is_refused(fake):
    content = Path(photo("x.png")).read_bytes()
    with tarfile.open("evil.tar", "w") as tar:
        info = tarfile.TarInfo("../../evil.png")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    done = run("invert", "evil.tar", "--keep-tree", "--out", "out/in")
    assert done.exit_code == 1
    assert "leads out of its folder" in done.stderr
    assert run("invert", "evil.tar", "--out", "out/in").exit_code == 0
    assert os.listdir("out") == ["in"]
