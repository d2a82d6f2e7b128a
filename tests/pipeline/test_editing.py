"""Edits through real networks: `mini`, and a Stable-Diffusion-shaped checkpoint with random weights."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from invrecon import EditSettings, Settings, edit, invert
from invrecon.errors import InputError, UsageError
from invrecon.metrics import psnr
from invrecon.models import load_model
from invrecon.seedfile import load_seed, save_seed
from invrecon.settings import MODES, read_edit
from tests import checkpoints

PROMPT, OTHER = "a red apple on a blue background", "a red apple on a green background"
FROM_A_SEED = [mode for mode in MODES if mode != "flowedit"]  # which needs a flow model
QUICK = Settings(prompt=PROMPT, size=64, num_inference_steps=5, rtol=0.02, boost=False)


@pytest.fixture(scope="module")
def seed(mini, tmp_path_factory):
    """A seed file and the photo it was made from, 72 x 64 pixels."""
    folder = tmp_path_factory.mktemp("seed")
    y, x = np.mgrid[0:64, 0:72]
    rgb = np.full((64, 72, 3), (40, 100, 220), np.uint8)
    rgb[(x - 36) ** 2 + (y - 32) ** 2 < 18**2] = (220, 40, 30)
    Image.fromarray(rgb).save(folder / "photo.png")
    save_seed(invert(folder / "photo.png", mini, QUICK).seed, folder / "photo.seed.safetensors")
    return folder / "photo.seed.safetensors", folder / "photo.png"


def mask_file(folder, size=(72, 64)):
    mask = Image.new("L", size)
    mask.paste(255, (0, 0, size[0], size[1] // 2))
    mask.save(folder / "mask.png")
    return folder / "mask.png"


@pytest.mark.parametrize("mode", FROM_A_SEED)
@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
def test_the_edit_to_the_same_prompt_is_the_reconstruction(mini, seed, mode, guidance_scale):
    settings = EditSettings(PROMPT, mode=mode, guidance_scale=guidance_scale, strength=0.6)
    result = edit(seed[0], mini, settings)
    assert result.edits[0].change_db > 55


@pytest.mark.parametrize(
    ("texts", "name"),
    [({"to": "a " * 40}, "target prompt"), ({"to": "a", "negative_prompt": "a " * 40}, "negative prompt")],
)
def test_a_text_that_is_too_long_is_called_by_its_name(mini, seed, texts, name):
    with pytest.raises(UsageError, match=f"the {name} has 40 tokens"):
        edit(seed[0], mini, EditSettings(**texts))


@pytest.mark.parametrize("mode", FROM_A_SEED)
def test_another_prompt_changes_the_picture(mini, seed, mode):
    settings = EditSettings(OTHER, mode=mode, to_layer=0.5)
    assert edit(seed[0], mini, settings).edits[0].change_db < 40


def test_attention_that_is_never_taken_over_and_words_that_weigh_1_leave_the_plain_swap(mini, seed):
    swapped, free, weighed = edit(
        seed[0],
        mini,
        [
            EditSettings(OTHER, mode="swap"),
            EditSettings(OTHER, mode="p2p", cross_steps=0, self_steps=0),
            EditSettings(OTHER, mode="p2p", cross_steps=0, self_steps=0, weights={"green": 1.0}),
        ],
    ).edits
    assert psnr(swapped.square, free.square) > 55
    assert psnr(free.square, weighed.square) > 55
    heavy = edit(
        seed[0], mini, EditSettings(OTHER, cross_steps=0, self_steps=0, weights={"green": 4.0})
    ).edits[0]
    assert psnr(free.square, heavy.square) < 45


def test_outside_a_mask_the_picture_is_the_reconstruction(mini, seed, tmp_path):
    result = edit(seed[0], mini, EditSettings(OTHER, mode="swap"), photo=seed[1], mask=mask_file(tmp_path))
    done = result.edits[0]
    difference = np.abs(np.asarray(done.square, int) - np.asarray(result.reconstruction, int)).max(-1)
    assert difference[np.asarray(done.mask) == 0].max() == 0
    assert difference[np.asarray(done.mask) == 255].mean() > 1
    assert done.outside_psnr == done.outside_reconstruction_psnr
    assert done.picture.size == (72, 64)


def test_the_photo_s_own_pixels_are_kept_outside_a_mask_only_where_asked(mini, seed, tmp_path):
    plain = EditSettings(OTHER, mode="swap")
    mask, photo = mask_file(tmp_path), np.asarray(Image.open(seed[1]))
    for keep in (False, True):
        result = edit(seed[0], mini, replace(plain, keep_original=keep), photo=seed[1], mask=mask)
        same = (np.asarray(result.edits[0].picture) == photo).all(-1)
        assert same[34:].all() == keep  # below the mask's edge, which Lanczos blurs by a pixel or two
        assert same[:30].mean() < 0.1


@pytest.mark.parametrize(
    ("missing", "complaint"), [("mask", "give --mask or --auto-mask"), ("photo", "give it with --photo")]
)
def test_keeping_the_original_needs_a_mask_and_the_photo(mini, seed, tmp_path, missing, complaint):
    given = {"photo": seed[1], "mask": mask_file(tmp_path)}
    del given[missing]
    with pytest.raises(UsageError, match=complaint):
        edit(seed[0], mini, EditSettings(OTHER, mode="swap", keep_original=True), **given)


def test_an_automatic_mask_has_both_colours_and_the_same_prompt_changes_nothing_under_it(mini, seed):
    done, same = edit(
        seed[0], mini, [EditSettings(OTHER, auto_mask=True), EditSettings(PROMPT, auto_mask=True)]
    ).edits
    assert done.mask.size == done.square.size == (72, 64)
    assert done.mask.getextrema() == (0, 255)
    assert same.change_db > 55


def test_a_photo_without_a_prompt_has_an_automatic_mask_by_the_target_prompt(mini, seed):
    [done] = edit(seed[1], mini, EditSettings(OTHER, auto_mask=True), replace(QUICK, prompt="")).edits
    assert done.mask.getextrema() == (0, 255)


def test_forgetting_counts_inside_a_mask_only(mini, seed, tmp_path):
    edits = [EditSettings(OTHER, mode="swap", forget=share) for share in (0.0, 1.0)]
    free = edit(seed[0], mini, edits).edits
    assert free[0].square == free[1].square
    masked = edit(seed[0], mini, edits, mask=mask_file(tmp_path)).edits
    assert masked[0].square != masked[1].square


def test_a_seed_repeats_its_edit_exactly_with_its_mask(mini, seed, tmp_path):
    settings = EditSettings(OTHER, guidance_scale=3, auto_mask=True, weights={"green": 1.5})
    first = edit(seed[1], mini, settings, QUICK, mask=mask_file(tmp_path)).edits[0]
    save_seed(first.seed, tmp_path / "x.seed.safetensors")
    assert load_seed(tmp_path / "x.seed.safetensors").header["edit"] == settings.header()
    again = edit(tmp_path / "x.seed.safetensors", mini)
    assert again.edits[0].settings == settings
    assert again.edits[0].square == first.square
    assert again.original is None
    assert edit(tmp_path / "x.seed.safetensors", mini, photo=seed[1]).edits[0].picture == first.picture


def test_ddim_inversion_reconstructs_worse(mini, seed):
    lbo, ddim = (edit(seed[1], mini, EditSettings(PROMPT), QUICK, inversion=way) for way in ("lbo", "ddim"))
    assert lbo.psnr > ddim.psnr
    assert ddim.edits[0].seed.header["inversion"] == "ddim"
    assert ddim.inversion.evaluations == 5


def test_a_seed_under_guidance_keeps_its_own(mini, seed, tmp_path):
    settings = replace(QUICK, guidance_scale=4.0)
    save_seed(invert(seed[1], mini, settings).seed, tmp_path / "x.seed.safetensors")
    result = edit(tmp_path / "x.seed.safetensors", mini, EditSettings(PROMPT), photo=seed[1])
    assert result.edits[0].settings.guidance_scale == 4.0
    assert result.edits[0].change_db > 50
    assert result.psnr > 20


def test_what_cannot_be_edited_is_refused(mini, seed, tmp_path):
    with pytest.raises(InputError, match="72 x 64"):
        edit(seed[0], mini, EditSettings(OTHER), mask=mask_file(tmp_path, (64, 64)))
    Image.new("L", (72, 64)).save(tmp_path / "black.png")
    with pytest.raises(InputError, match="black"):
        edit(seed[0], mini, EditSettings(OTHER), mask=tmp_path / "black.png")
    with pytest.raises(InputError, match="--to"):
        edit(seed[0], mini)
    with pytest.raises(InputError, match="prompt"):
        edit(seed[0], mini, EditSettings(OTHER), Settings(prompt="a pear"))
    with pytest.raises(UsageError, match="'pear'"):
        edit(seed[0], mini, EditSettings(OTHER, weights={"pear": 2.0}))
    with pytest.raises(UsageError, match="end it after"):
        edit(seed[0], mini, EditSettings("apple " * 50))
    with pytest.raises(UsageError, match=r"at least 1, which means none for Stable Diffusion .*, not 0.5"):
        edit(seed[0], mini, EditSettings(OTHER, guidance_scale=0.5))
    for wrong in (
        {"guidance_scale": -0.5},
        {"mode": "magic"},
        {"strength": float("nan")},
        {"mode": "swap", "weights": {"red": 2.0}},
    ):
        with pytest.raises(UsageError):
            EditSettings(OTHER, **wrong)


@pytest.mark.parametrize(
    "damage",
    [
        None,
        {},
        {"to": 5},
        {"to": "x", "guidance_scale": "7"},
        {"to": "x", "bogus": 1},
        {"to": "x", "weights": []},
    ],
)
def test_a_damaged_edit_in_a_header_is_refused(damage):
    with pytest.raises(UsageError, match="damaged"):
        read_edit(damage)


@pytest.fixture
def random_model(mini, tmp_path):
    folder = checkpoints.save(tmp_path / "sd", checkpoints.stable_diffusion, mini.pipeline.tokenizer)
    return load_model(str(folder), device="cpu")


@pytest.mark.parametrize("mode", FROM_A_SEED)
def test_random_weights_of_stable_diffusion_s_shape_are_edited_and_the_identity_holds(
    random_model, seed, mode
):
    edits = [
        EditSettings(text, mode=mode, auto_mask=mask)
        for text, mask in ((PROMPT, False), (OTHER, False), (OTHER, True))
    ]
    same, other, masked = edit(seed[1], random_model, edits, QUICK).edits
    assert same.change_db > 50
    assert other.square.size == masked.square.size == (72, 64)


def test_a_prompt_that_is_too_long_is_called_by_its_name(mini):
    with pytest.raises(UsageError, match=r"^the prompt has"):
        mini.check_prompts("a pear " * 100, "")
    with pytest.raises(UsageError, match=r"^the negative prompt has"):
        mini.check_prompts("a pear", "a plum " * 100)
