"""The same folder in parts and as a whole, with the model: the same files, byte for byte."""

from pathlib import Path

from PIL import Image

from tests.cli.fakes import rows, run


def test_three_shards_leave_the_files_of_one_run(folder):
    Path("photos/below").mkdir(parents=True)
    for k, name in enumerate(("a", "b", "below/c", "d", "e")):
        Image.linear_gradient("L").resize((64, 64)).rotate(30 * k).convert("RGB").save(f"photos/{name}.png")
        Path(f"photos/{name}.txt").write_text(f"a grey square {k % 2}")
    quick = "--size", "64", "--steps", "2", "--no-boost", "--batch-size", "1", "--device", "cpu"
    asked = "reconstruct", "photos", "--recursive", "--keep-tree", "--sidecars", *quick, "--json"
    parts = [run(*asked, "--shard", f"{k}/3", "--out", "parts") for k in range(3)]
    assert [part.exit_code for part in parts] == [0, 0, 0]
    assert sum(len(rows(part)) for part in parts) == 5
    assert max(len(rows(part)) for part in parts) < 5
    assert run(*asked, "--out", "whole").exit_code == 0
    whole = {
        path.relative_to("whole"): path.read_bytes() for path in Path("whole").rglob("*.*") if path.is_file()
    }
    assert len(whole) == 15
    assert whole == {path: Path("parts", path).read_bytes() for path in whole}
    hidden = [path for path in Path("parts").rglob("*") if path.is_file() and path.name.startswith(".")]
    assert all(path.name.startswith(".invrecon") for path in hidden)
    assert len([path for path in Path("parts").rglob("*") if path.is_file()]) == 15 + len(hidden)
