"""What a file is, by its ending and its first bytes."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from invrecon.cluster.checks import check_header
from invrecon.errors import InputError
from invrecon.formats import is_seed_file
from invrecon.image import load_photo


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        ("a.seed.safetensors", True),
        ("A.SEED.SAFETENSORS", True),
        ("a.seed.sft", True),
        ("a.png", False),
        ("safetensors", False),
    ],
)
def test_a_seed_file_is_told_by_its_ending(name, seed):
    assert is_seed_file(Path(name)) is seed


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "is empty"),
        (b'{"prompt": "a cat"}', "isn't a picture"),
        (b"\0\0\0\x18ftypheic", "damaged"),
    ],
)
def test_what_is_no_picture_is_refused_as_it_is_when_it_is_read(tmp_path, data, cause):
    path = tmp_path / "x.png"
    path.write_bytes(data)
    with pytest.raises(InputError, match=cause) as caught:
        check_header(path)
    with pytest.raises(InputError) as read:
        load_photo(path)
    assert str(read.value) == f"{path}: {caught.value}"


def test_a_safetensors_file_is_a_seed_file_by_its_header(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"z": torch.zeros(1)}, path, {"invrecon": "{}"})
    check_header(path)
    save_file({"z": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="not a seed file of invrecon"):
        check_header(path)
    for damage in (
        b"",
        b"\xff" * 8,
        (2).to_bytes(8, "little") + b"[]",
        (9).to_bytes(8, "little") + json.dumps({}).encode(),
    ):
        path.write_bytes(damage)
        with pytest.raises(InputError, match="safetensors"):
            check_header(path)
