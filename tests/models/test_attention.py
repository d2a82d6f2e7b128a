"""Attention layers of a real network: each is watched with its kind and place, and restored."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import UNet2DConditionModel

from invrecon.errors import ModelError
from invrecon.models import load_model
from invrecon.models.attention import depths, watched
from invrecon.settings import Recipe
from tests import checkpoints


@pytest.fixture
def model(mini, tmp_path):
    """Stable Diffusion's shape, random weights."""
    folder = checkpoints.save(tmp_path / "sd", checkpoints.stable_diffusion, mini.pipeline.tokenizer)
    return load_model(str(folder), device="cpu")


def test_every_attention_layer_is_watched_with_its_kind_and_place_and_restored(model):
    unet = model.pipeline.unet
    before = dict(unet.attn_processors)
    sites = {}

    def watch(site, heads):
        sites[site.name] = (site, heads)
        return heads.attend()

    denoiser, latents = model.denoiser(Recipe("a red apple", width=64, height=64)), torch.randn(1, 4, 8, 8)
    plain = denoiser(latents, 500)
    with torch.no_grad(), watched(SimpleNamespace(unet=unet)) as attention:
        torch.testing.assert_close(denoiser(latents, 500), plain)
        attention.watcher = watch
        torch.testing.assert_close(denoiser(latents, 500), plain)
    assert sites.keys() == before.keys()
    for name, (site, heads) in sites.items():
        assert site.cross == ("attn2" in name)
        assert heads.key.shape[-2] == (32 if site.cross else heads.query.shape[-2])
    assert all(unet.attn_processors[name] is before[name] for name in before)
    with pytest.raises(RuntimeError, match="on purpose"), watched(SimpleNamespace(unet=unet)):
        raise RuntimeError("on purpose")
    assert all(unet.attn_processors[name] is before[name] for name in before)


def test_layers_are_counted_from_input_to_output():
    unet = UNet2DConditionModel(
        block_out_channels=(8, 16, 16),
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        layers_per_block=1,
        cross_attention_dim=8,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    found = depths(unet.attn_processors)
    selves = sorted((name for name in found if "attn1" in name), key=found.get)
    assert [name.split(".")[0] for name in selves] == ["down_blocks"] * 3 + ["mid_block"] + ["up_blocks"] * 6
    assert found[selves[0]] == 0
    assert found[selves[-1]] == pytest.approx(0.9)


def test_attention_to_text_and_picture_at_once_is_refused():
    unet = UNet2DConditionModel(
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "SimpleCrossAttnDownBlock2D"),
        norm_num_groups=8,
        layers_per_block=1,
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=4,
    )
    with pytest.raises(ModelError, match="at once"), watched(SimpleNamespace(unet=unet)):
        pass
