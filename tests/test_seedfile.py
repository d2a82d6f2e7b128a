import json

import pytest
import torch
from safetensors.torch import save_file

from invrecon.errors import InputError, InvreconError
from invrecon.formats import is_seed_file
from invrecon.seedfile import OPTIONAL, REQUIRED, Seed, load_seed, save_seed
from invrecon.settings import Recipe

HEADER = {
    "format": 2,
    "model": "mini",
    "fingerprint": "0" * 64,
    "scheduler": {},
    "timesteps": [501, 1],
    "num_inference_steps": 2,
    "prompt": "ein Apfel, 苹果",
    "negative_prompt": "",
    "guidance_scale": 1.0,
    "sampler": "ddim",
    "dtype": "float32",
    "width": 64,
    "height": 64,
}


def seed(**changes):
    return Seed(torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8), {**HEADER, **changes})


def test_a_seed_comes_back_as_it_went(tmp_path):
    original, path = seed(), tmp_path / "new" / "x.seed.safetensors"
    save_seed(original, path)
    back = load_seed(path)
    assert torch.equal(back.latents, original.latents)
    assert torch.equal(back.image_latents, original.image_latents)
    assert back.header == original.header
    assert is_seed_file(path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


SCHEDULE = {"prediction": "epsilon", "A": [1.0], "B": [0.5], "scales": [1], "memory": None}
MEMORY = {"C": [0.0], "P": [1.0], "Q": [2.0]}
IDENTITY = {"weights": {}, "configuration": {}, "tokenizers": {}, "attachments": {}}


def test_what_later_files_hold_besides_comes_back_too(tmp_path):
    for schedule in (SCHEDULE, SCHEDULE | {"memory": MEMORY}):
        more = {"schedule": schedule, "identity": IDENTITY, "tiling": True, "guidance_argument": "cfg"}
        save_seed(seed(**more), tmp_path / "x.safetensors")
        assert load_seed(tmp_path / "x.safetensors").header == HEADER | more


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((key, 7) for key in OPTIONAL),
        ("schedule", {}),
        ("schedule", SCHEDULE | {"A": [None]}),
        ("schedule", SCHEDULE | {"B": 1.0}),
        ("schedule", SCHEDULE | {"prediction": 1}),
        ("schedule", SCHEDULE | {"memory": {"C": [0.0]}}),
        ("schedule", SCHEDULE | {"memory": [1]}),
        ("schedule", {name: value for name, value in SCHEDULE.items() if name != "memory"}),
        ("identity", IDENTITY | {"weights": []}),
        ("identity", {"weights": {}}),
    ],
)
def test_what_later_files_hold_is_checked_where_it_is_there(tmp_path, key, value):
    save_seed(seed(**{key: value}), tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=f"damaged seed file, header field '{key}'"):
        load_seed(tmp_path / "x.safetensors")


@pytest.mark.parametrize("key", REQUIRED)
def test_each_missing_or_mistyped_field_is_named(tmp_path, key):
    for header in ({k: v for k, v in HEADER.items() if k != key}, {**HEADER, key: None}):
        save_seed(Seed(torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 8, 8), header), tmp_path / "x.safetensors")
        with pytest.raises(InputError, match=key):
            load_seed(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("latents", "complaint"),
    [
        (torch.zeros(4, 8, 8), "not float32"),
        (torch.zeros(2, 4, 8, 8), "not float32"),
        (torch.full((1, 4, 8, 8), float("nan")), "not finite"),
        (torch.zeros(1, 4, 8, 9), "differ"),
        (torch.zeros(1, 4, 0, 8), "not float32"),
    ],
)
def test_odd_tensors_are_refused(tmp_path, latents, complaint):
    save_seed(Seed(latents, torch.zeros(1, 4, 8, 8), HEADER), tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=complaint):
        load_seed(tmp_path / "x.safetensors")


def test_latents_of_other_dtypes_are_refused(tmp_path):
    path, wide = tmp_path / "x.safetensors", torch.zeros(1, 4, 8, 8, dtype=torch.float64)
    save_file(
        {"latents": wide, "image_latents": wide.clone()}, path, metadata={"invrecon": json.dumps(HEADER)}
    )
    with pytest.raises(InputError, match="not float32 or float16"):
        load_seed(path)


def test_half_precision_halves_a_file_and_is_read_back_as_it_was_rounded(tmp_path):
    torch.manual_seed(0)
    seed = Seed(torch.randn(1, 4, 64, 64), torch.randn(1, 4, 64, 64), HEADER)
    sizes = []
    for dtype in ("float32", "float16"):
        save_seed(seed, tmp_path / dtype, dtype=dtype)
        sizes.append((tmp_path / dtype).stat().st_size)
    assert 0.5 < sizes[1] / sizes[0] < 0.51
    again = load_seed(tmp_path / "float16")
    assert again.latents.dtype == torch.float32
    assert torch.equal(again.latents, seed.latents.half().float())
    assert torch.equal(again.image_latents, seed.image_latents.half().float())
    too_large = Seed(torch.full((1, 4, 8, 8), 1e6), torch.zeros(1, 4, 8, 8), HEADER)
    with pytest.raises(InvreconError, match="--seed-dtype float32"):
        save_seed(too_large, tmp_path / "x", dtype="float16")
    save_seed(too_large, tmp_path / "x", dtype="float32")


def test_other_safetensors_files_are_told_apart(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(InputError, match="not a seed file"):
        load_seed(path)
    save_file({"latents": torch.zeros(1, 4, 8, 8)}, path, metadata={"invrecon": json.dumps(HEADER)})
    with pytest.raises(InputError, match="image_latents missing"):
        load_seed(path)


def test_every_truncation_is_one_clear_line(tmp_path):
    path = tmp_path / "x.safetensors"
    save_seed(seed(), path)
    whole = path.read_bytes()
    for length in [*range(0, 200, 7), len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(InputError) as caught:
            load_seed(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 100_000, '{"format": 2}', '{"format": true}'])
def test_hostile_headers_are_refused(tmp_path, text):
    path = tmp_path / "x.safetensors"
    save_file(
        {"latents": torch.zeros(1, 4, 8, 8), "image_latents": torch.zeros(1, 4, 8, 8)},
        path,
        metadata={"invrecon": text},
    )
    with pytest.raises(InputError):
        load_seed(path)


def test_pickles_missing_files_and_folders_are_refused(tmp_path):
    torch.save({"latents": torch.zeros(1)}, tmp_path / "x.safetensors")
    for path in (tmp_path / "x.safetensors", tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(InputError):
            load_seed(path)


def test_a_failed_write_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "x.safetensors"
    path.mkdir()
    with pytest.raises(InvreconError, match="can't be written"):
        save_seed(seed(), path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"sampler": "nosuch"}, "its sampler is 'nosuch'"),
        ({"width": 68}, "width must be a multiple of 8"),
        ({"height": 1 << 20}, "height must lie between 64 and 2048"),
        ({"num_inference_steps": 0}, "num_inference_steps must lie between 1 and 1000"),
        ({"guidance_scale": float("1e9")}, "guidance_scale must lie between 0 and 100"),
        ({"dtype": "load"}, "damaged seed file, its dtype is 'load'"),
        ({"format": 3}, "format 3; this invrecon reads formats 1 and 2"),
    ],
)
def test_values_out_of_range_are_refused(tmp_path, changes, complaint):
    path = tmp_path / "x.seed.safetensors"
    save_seed(seed(**changes), path)
    with pytest.raises(InputError, match=complaint):
        load_seed(path)


def test_the_recipe_is_what_the_header_says():
    recipe = seed(width=96, guidance_scale=3).recipe
    assert recipe == Recipe("ein Apfel, 苹果", "", 2, 3, "ddim", 96, 64)


def test_format_1_is_read_with_its_square_size_and_ddim(tmp_path):
    """The first seeds had one side, and named no sampler."""
    old = {key: value for key, value in HEADER.items() if key not in ("sampler", "width", "height")}
    path = tmp_path / "x.seed.safetensors"
    for sampler in ({}, {"sampler": "euler"}):
        save_seed(Seed(seed().latents, seed().image_latents, old | sampler | {"format": 1, "size": 72}), path)
        recipe = load_seed(path).recipe
        assert (recipe.width, recipe.height) == (72, 72)
        assert recipe.sampler == sampler.get("sampler", "ddim")
