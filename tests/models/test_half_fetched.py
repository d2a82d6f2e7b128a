"""Folders that came without some of their files, or with others in their place: what the libraries would make
up in silence is refused in a line."""

import json

import pytest

from invrecon.errors import ModelError
from invrecon.models import load_model, model_folder
from invrecon.models.quiet import quiet
from tests import checkpoints
from tests.models.weights import configure, copy, refused

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 34\n"


@pytest.fixture(scope="module")
def folder(mini, tmp_path_factory):
    """Its networks in several shards, as large ones are."""
    root = tmp_path_factory.mktemp("sharded")
    path = checkpoints.save(root / "one", checkpoints.stable_diffusion, mini.pipeline.tokenizer)
    with quiet():
        load_model(str(path), device="cpu").pipeline.save_pretrained(root / "many", max_shard_size="60KB")
    return root / "many"


@pytest.fixture
def path(folder, tmp_path):
    return copy(folder, tmp_path / "m")


@pytest.fixture
def classic(tmp_path):
    """With its tokenizer in the files of older versions too."""
    return copy(model_folder("mini"), tmp_path / "classic")


def without(folder, *names):
    for name in names:
        (folder / "tokenizer" / name).unlink()


@pytest.mark.parametrize("names", [["tokenizer.json"], ["tokenizer.json", "tokenizer_config.json"]])
def test_an_empty_tokenizer_is_not_begun_in_the_place_of_one_without_files(path, names):
    """Every prompt would be the same to it."""
    without(path, *names)
    assert "its tokenizer knows 2 tokens, its text encoder 2234: its vocabulary is missing" in refused(path)


def test_either_of_a_tokenizer_s_forms_is_enough(classic, tmp_path):
    ids = load_model("mini", device="cpu").pipeline.tokenizer("a photo of a cat").input_ids
    new = copy(classic, tmp_path / "new")
    without(new, "vocab.json", "merges.txt")
    without(classic, "tokenizer.json")
    for each in (new, classic):
        assert load_model(str(each), device="cpu").pipeline.tokenizer("a photo of a cat").input_ids == ids


def test_merges_that_are_cut_off_are_missed(classic, path):
    """Prompts would be spelt in more tokens."""
    without(classic, "tokenizer.json")
    merges = classic / "tokenizer" / "merges.txt"
    lines = merges.read_text().splitlines()
    merges.write_text("\n".join(lines[:-7]))
    assert "its tokenizer lacks 7 of the merges" in refused(classic)
    table = json.loads((path / "tokenizer" / "tokenizer.json").read_text())
    del table["model"]["merges"][-3:]
    (path / "tokenizer" / "tokenizer.json").write_text(json.dumps(table))
    assert "its tokenizer lacks 3 of the merges" in refused(path)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_an_index_is_not_taken_at_its_word(path, part):
    """The libraries leave weights random that aren't in the shard that the index names."""
    index = next((path / part).glob("*.index.json"))
    places = json.loads(index.read_text())["weight_map"]
    first, *others = sorted(set(places.values()))
    assert others
    moved = min(name for name, shard in places.items() if shard != first)
    configure(index, weight_map=places | {moved: first})
    said = refused(path)
    assert f"its {part} lacks 1 weights where {index.name} says they are ({moved} in {first})" in said


@pytest.mark.parametrize(
    "name",
    [
        "model_index.json",
        "unet/config.json",
        "vae/diffusion_pytorch_model-00001-of-00003.safetensors",
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer.json",
    ],
)
def test_pointers_of_git_lfs_are_told(path, name):
    """The files of a clone that was made without it."""
    [pointer] = path.glob(name.replace("00003", "*"))
    pointer.write_text(POINTER)
    assert f"{pointer} is a Git LFS pointer, not the file: run git lfs pull" in refused(path)


def test_a_single_file_that_is_a_pointer(path, tmp_path):
    (tmp_path / "x.safetensors").write_text(POINTER)
    with pytest.raises(ModelError, match=r"x\.safetensors is a Git LFS pointer"):
        load_model(str(tmp_path / "x.safetensors"), device="cpu")
    assert "is a Git LFS pointer" in refused(path, lora=[str(tmp_path / "x.safetensors")])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"_class_name": ...}, "names no _class_name"),
        ({"scheduler": ...}, "names no scheduler"),
        ({"vae": [None, None]}, "names no vae"),
        ({"unet": "diffusers"}, "names no class for unet"),
        ({"unet": ["my_unet", "MyUNet"]}, "unet is code of its own (my_unet)"),
    ],
)
def test_what_an_index_of_parts_lacks_is_told_once(path, changes, said):
    configure(path / "model_index.json", **changes)
    text = refused(path)
    assert said in text
    assert text.count("can't load the model") == 1


@pytest.mark.parametrize("name", ["model_index.json", "scheduler/scheduler_config.json"])
def test_a_byte_order_mark_is_told(path, name):
    (path / name).write_bytes(b"\xef\xbb\xbf" + (path / name).read_bytes())
    assert "begins with a byte order mark): save it anew as UTF-8" in refused(path)
    (path / name).write_text((path / name).read_text(encoding="utf-8-sig"), encoding="utf-8")
    assert load_model(str(path), device="cpu").fingerprint
