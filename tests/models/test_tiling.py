"""An autoencoder works in tiles only where it was asked to and the memory asks for it."""

import pytest
import torch
from diffusers import AutoencoderKL

from invrecon.models import load_model, tiling
from invrecon.models.tiling import LAYERS_AT_ONCE, Tiling

CPU = torch.device("cpu")


def latents():
    """Of a picture of 64 x 64 pixels."""
    return torch.zeros(1, 4, 32, 32)


@pytest.fixture
def autoencoder():
    """With 16 channels at full size, whose largest layer takes 2 x 16 float32 a pixel; tiles of 64."""
    made = AutoencoderKL(
        block_out_channels=(16, 16), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=4, sample_size=64,
    )  # fmt: skip
    made.enable_tiling()
    return made.requires_grad_(False)


@pytest.mark.parametrize(("share", "used"), [(1.01, False), (0.99, True)])
def test_a_picture_is_cut_where_what_it_takes_is_more_than_what_is_free(
    autoencoder, monkeypatch, share, used
):
    takes = LAYERS_AT_ONCE * 2 * 16 * 4 * 128 * 96
    monkeypatch.setattr(tiling, "free_memory", lambda _: share * takes)
    assert Tiling(autoencoder, CPU, latents).used(128, 96) == used


def test_never_what_fits_one_tile_nor_where_nobody_asked(autoencoder, monkeypatch):
    monkeypatch.setattr(tiling, "free_memory", lambda _: 0.0)
    assert [Tiling(autoencoder, CPU, latents).used(*size) for size in ((64, 64), (66, 64))] == [False, True]
    autoencoder.disable_tiling()
    assert not Tiling(autoencoder, CPU, latents).used(512, 512)


def test_a_size_is_decided_once(autoencoder, monkeypatch):
    """Else a picture could be encoded as a whole and decoded in tiles."""
    monkeypatch.setattr(tiling, "free_memory", lambda _: 1e12)
    tiles = Tiling(autoencoder, CPU, latents)
    assert not tiles.used(128, 128)
    monkeypatch.setattr(tiling, "free_memory", lambda _: 0.0)
    assert not tiles.used(128, 128)
    tiles.prepare(128, 128)
    assert not autoencoder.use_tiling
    tiles.prepare(256, 256)
    assert autoencoder.use_tiling


def test_with_memory_enough_pictures_are_the_same_as_without_the_option(mini, monkeypatch):
    pixels = torch.rand(1, 3, 256, 320, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = mini.encode(pixels)
    monkeypatch.setattr(tiling, "free_memory", lambda _: 1e12)
    asked = load_model("mini", device="cpu", tiling=True)
    assert torch.equal(asked.encode(pixels), expected)
    monkeypatch.setattr(tiling, "free_memory", lambda _: 0.0)
    cut = load_model("mini", device="cpu", tiling=True)
    assert not torch.allclose(cut.encode(pixels), expected, atol=0.01)
    assert torch.equal(cut.encode(pixels[..., :256]), mini.encode(pixels[..., :256]))
