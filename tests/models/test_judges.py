"""LPIPS, CLIP and DINO as PIE-Bench takes them, on small random weights."""

import re

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional

from invrecon.errors import ModelError
from invrecon.models.judges import Clip, Dino, Lpips


def picture(seed, side=64):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def lpips(tmp_path):
    """Random weights under the names of the package, and the path of their file."""
    torch.manual_seed(0)
    channels, squeezed = (
        (64, 128, 256, 384, 384, 512, 512),
        {3: 16, 4: 16, 6: 32, 7: 32, 9: 48, 10: 48, 11: 64, 12: 64},
    )
    widths = {
        3: (64, 64),
        4: (128, 64),
        6: (128, 128),
        7: (256, 128),
        9: (256, 192),
        10: (384, 192),
        11: (384, 256),
        12: (512, 256),
    }
    slices = {0: 1, 3: 2, 4: 2, 6: 3, 7: 3, 9: 4, 10: 5, 11: 6, 12: 7}
    weights = {"net.slice1.0.weight": torch.randn(64, 3, 3, 3) / 5, "net.slice1.0.bias": torch.zeros(64)}
    for layer, (given, expanded) in widths.items():
        start, thin = f"net.slice{slices[layer]}.{layer}", squeezed[layer]
        for part, shape in {
            "squeeze": (thin, given, 1, 1),
            "expand1x1": (expanded, thin, 1, 1),
            "expand3x3": (expanded, thin, 3, 3),
        }.items():
            weights[f"{start}.{part}.weight"] = torch.randn(shape) * (2 / np.prod(shape[1:])) ** 0.5
            weights[f"{start}.{part}.bias"] = torch.randn(shape[0]) / 10
    weights |= {f"lin{k}.model.1.weight": torch.rand(1, n, 1, 1) for k, n in enumerate(channels)}
    path = tmp_path / "lpips.safetensors"
    save_file({name: value.float() for name, value in weights.items()}, path)
    return weights, path


def test_lpips_is_a_distance(lpips):
    judge, random = Lpips(lpips[1]), torch.Generator().manual_seed(1)
    a, b = (torch.rand(1, 3, 64, 64, generator=random) * 2 - 1 for _ in range(2))
    assert judge.distance(a, a) == 0
    assert judge.distance(a, b) == pytest.approx(judge.distance(b, a), rel=1e-4)
    assert judge.distance(a, b) > judge.distance(a, a + 0.1 * (b - a)) > 0


def test_lpips_agrees_with_the_implementation_that_pie_bench_calls(lpips):
    pytest.importorskip("torchvision")
    from torchmetrics.functional.image.lpips import _LPIPS

    theirs = _LPIPS(pretrained=False, net="squeeze", pnet_rand=True, use_dropout=True, eval_mode=True)
    state = theirs.state_dict()
    for name, value in lpips[0].items():
        slice_ = re.match(r"net\.slice(\d)", name)
        theirs_name = name.replace(slice_[0], f"net.slices.{int(slice_[1]) - 1}") if slice_ else name
        assert state[theirs_name].shape == value.shape
        state[theirs_name].copy_(value)
        if name.startswith("lin"):
            state[f"lins.{name[3:]}"].copy_(value)
    random = torch.Generator().manual_seed(1)
    a, b = (torch.rand(1, 3, 64, 80, generator=random) * 2 - 1 for _ in range(2))
    assert Lpips(lpips[1]).distance(a, b) == pytest.approx(theirs(a, b).item(), rel=1e-4)


def test_lpips_without_all_weights_is_refused(lpips, tmp_path):
    weights, path = lpips
    save_file({name: value for name, value in weights.items() if "lin6" not in name}, path)
    with pytest.raises(ModelError, match=r"its LPIPS .*lin6\.model\.1\.weight"):
        Lpips(path)
    with pytest.raises(ModelError, match=r"no \.safetensors"):
        Lpips(tmp_path / "squeezenet.pth")


def test_dino_compares_similarities_of_keys(tmp_path):
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, patch_size=56
    )
    network = transformers.ViTModel(config, add_pooling_layer=False).eval()
    network.save_pretrained(tmp_path)
    judge, a, b = Dino(tmp_path), picture(0, 224), picture(1, 224)
    mean = torch.tensor((0.485, 0.456, 0.406)).view(1, 3, 1, 1)
    std = torch.tensor((0.229, 0.224, 0.225)).view(1, 3, 1, 1)

    def similarity(one):
        pixels = torch.tensor(np.array(one).astype(np.float32)).permute(2, 0, 1)[None]  # 0 to 255, as there
        with torch.no_grad():
            before = network((pixels - mean) / std, output_hidden_states=True).hidden_states[-2]
            layer = network.layers[-1] if hasattr(network, "layers") else network.encoder.layer[-1]
            attention = layer.attention
            key = attention.k_proj if hasattr(attention, "k_proj") else attention.attention.key
            keys = key(layer.layernorm_before(before))[0]
        return functional.cosine_similarity(keys[:, None], keys[None], dim=-1)

    expected = (similarity(a) - similarity(b)).square().mean().item()
    assert judge.distance(a, b) == pytest.approx(expected, rel=1e-3)
    assert judge.distance(a, a) == 0


def test_folders_without_weights_are_refused_in_one_line(tmp_path):
    for kind, name in ((Clip, "CLIP"), (Dino, "DINO")):
        with pytest.raises(ModelError, match=f"its {name} can't be read: name a folder with config"):
            kind(tmp_path)
