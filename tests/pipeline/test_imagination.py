"""From references to new pictures, on mini at its smallest."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from invrecon import Imagining, Settings, imagine, interpolate, reconstruct, save_seed, verify
from invrecon.core.shell import project
from invrecon.errors import InputError, UsageError
from invrecon.metrics import psnr
from invrecon.models import model_folder
from invrecon.models.quiet import quiet
from invrecon.pipeline import find_reference, of_common_size
from invrecon.seedfile import load_seed

QUICK = Settings(size=64, fit="crop", num_inference_steps=4, rtol=0.05, prompt="a red apple")
GUIDED = replace(QUICK, guidance_scale=2.0)


@pytest.fixture(scope="module")
def found(mini, tmp_path_factory):
    """Two photos, of different shapes and kinds of file, and what inversion makes of them."""
    folder = tmp_path_factory.mktemp("photos")
    y, x = np.mgrid[0:90, 0:120]
    Image.fromarray(np.stack((2 * x, 2 * y, 255 - 2 * x), -1).astype(np.uint8)).save(folder / "photo.png")
    Image.fromarray(np.stack((255 - x, 2 * y, 100 + 0 * x), -1).astype(np.uint8)[:, :80]).save(
        folder / "other.jpg"
    )
    paths = [folder / "photo.png", folder / "other.jpg"]
    return paths, [find_reference(one, mini, QUICK) for one in paths]


@pytest.fixture
def photos(found):
    return found[0]


@pytest.fixture
def references(found):
    return found[1]


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB"))


def test_all_seeds_are_on_the_shell_and_their_files_give_their_pictures(mini, references, tmp_path):
    for one in imagine(references, mini, GUIDED, Imagining(count=3)):
        assert abs(one.health.norm - 1) < 0.02
        save_seed(one.seed, tmp_path / "x.seed.safetensors")
        again = reconstruct(tmp_path / "x.seed.safetensors", mini)
        assert np.array_equal(pixels(again.square), pixels(one.picture))
        assert again.latent_fidelity_db > 120


def test_the_stock_pipeline_makes_the_same_picture_of_an_imagined_seed(mini, references, tmp_path):
    one = next(imagine(references, mini, GUIDED))
    save_seed(one.seed, tmp_path / "x.seed.safetensors")
    seed = load_seed(tmp_path / "x.seed.safetensors")
    with quiet():
        stock = StableDiffusionPipeline.from_pretrained(model_folder("mini"))
    stock.set_progress_bar_config(disable=True)
    names = ("prompt", "negative_prompt", "num_inference_steps", "guidance_scale")
    theirs = stock(
        latents=seed.latents, height=64, width=64, **{name: seed.header[name] for name in names}
    ).images[0]
    assert psnr(one.picture, theirs) > 50


def test_a_seed_that_belongs_to_no_photo_is_refused_where_one_is_needed(mini, references, photos, tmp_path):
    save_seed(next(imagine(references, mini, QUICK)).seed, tmp_path / "x.seed.safetensors")
    with pytest.raises(InputError, match="belongs to no photo"):
        verify(tmp_path / "x.seed.safetensors", photos[0], mini)


def test_the_same_random_seed_gives_the_same_pictures_and_a_larger_count_only_adds_some(mini, references):
    few = list(imagine(references, mini, QUICK, Imagining(count=2)))
    more = list(imagine(references, mini, QUICK, Imagining(count=3)))
    other = list(imagine(references, mini, replace(QUICK, seed=1), Imagining(count=2)))
    for one, same, different in zip(few, more, other, strict=False):
        assert torch.equal(one.seed.latents, same.seed.latents)
        assert np.array_equal(pixels(one.picture), pixels(same.picture))
        assert not torch.equal(one.seed.latents, different.seed.latents)
    assert len(more) == 3


def test_without_spread_the_only_reference_comes_back_from_its_place_on_the_shell(mini, references):
    one = next(imagine(references[:1], mini, QUICK, Imagining(spread=0)))
    torch.testing.assert_close(one.seed.latents, project(references[0].seed.latents))


def test_a_straight_path_returns_the_photos_at_its_ends_and_loses_the_norm_between_them(
    mini, references, photos
):
    straight = list(interpolate(*references, mini, QUICK, Imagining(frames=3, path_kind="linear")))
    curved = list(interpolate(*references, mini, QUICK, Imagining(frames=3)))
    back = reconstruct(photos[0], mini, replace(QUICK, boost=False))
    assert np.array_equal(pixels(straight[0].picture), pixels(back.square))
    assert straight[1].health.norm < 0.9 * min(references[0].health.norm, references[1].health.norm)
    assert all(abs(one.health.norm - 1) < 0.02 for one in curved)
    for end, one in ((curved[0], references[0]), (curved[-1], references[1])):
        torch.testing.assert_close(end.seed.latents, project(one.seed.latents))


def test_photos_and_their_seed_files_are_the_same_references(mini, references, photos, tmp_path):
    for number, one in enumerate(references):
        save_seed(one.seed, tmp_path / f"{number}.seed.safetensors")
    of_photos = next(imagine(photos, mini, QUICK))
    of_seeds = next(imagine([tmp_path / "0.seed.safetensors", photos[1]], mini, QUICK))
    assert torch.equal(of_photos.seed.latents, of_seeds.seed.latents)
    assert of_photos.seed.header["imagined"]["photos"] == of_seeds.seed.header["imagined"]["photos"]


def test_references_are_inverted_without_guidance_and_boosting(mini, photos, references):
    loud = find_reference(photos[0], mini, replace(QUICK, guidance_scale=7.5, boost=True))
    assert torch.equal(loud.seed.latents, references[0].seed.latents)


def test_refinement_brings_the_picture_closer_to_the_reference_and_says_what_it_cost(mini, references):
    settings, target = Imagining(count=1, spread=0.5, refine=3), references[0].seed.image_latents
    plain = next(imagine(references[:1], mini, QUICK, replace(settings, refine=0)))
    refined = next(imagine(references[:1], mini, QUICK, settings))
    distances = [
        ((one.seed.image_latents - target).norm() / target.norm()).item() ** 2 for one in (plain, refined)
    ]
    assert distances[1] < distances[0]
    assert [refined.refinement.before, refined.refinement.after] == pytest.approx(distances, rel=1e-4)
    assert refined.evaluations == 4 + 3 * 16 + 4 + 4
    assert abs(refined.health.norm - 1) < 0.02
    assert refined.seed.header["imagined"]["refinement"]["evaluations"] == 56


def test_a_seed_of_another_size_is_refused(mini, references, photos, tmp_path):
    save_seed(references[0].seed, tmp_path / "x.seed.safetensors")
    with pytest.raises(
        InputError, match="is a seed for 64x64 pixels, not for 72x64; make it anew with --size"
    ):
        list(imagine([photos[0], tmp_path / "x.seed.safetensors"], mini, replace(QUICK, size="72x64")))


def test_whole_photos_of_different_shapes_are_brought_to_one(mini, photos, references):
    """120 x 90 and 80 x 90: about 1.09 to 1."""
    whole = replace(QUICK, fit="whole", size=96)
    common = of_common_size(photos, mini, whole)
    assert (common.size, common.fit) == ("96x88", "crop")
    assert {find_reference(one, mini, common).seed.latents.shape[2:] for one in photos} == {(11, 12)}
    assert next(imagine(photos, mini, whole, Imagining(count=1))).picture.size == (96, 88)
    assert (
        of_common_size([photos[0], references[0]], mini, whole).size == "64x64"
    )  # a seed's size can't change


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": 0},
        {"spread": -0.1},
        {"spread": 1.1},
        {"spread": float("nan")},
        {"refine": -1},
        {"frames": 1},
        {"path_kind": ""},
    ],
)
def test_wishes_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Imagining(**wrong)


def test_no_reference_is_refused(mini):
    with pytest.raises(UsageError, match="at least one"):
        next(imagine([], mini))
