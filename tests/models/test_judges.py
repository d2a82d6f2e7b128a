"""LPIPS, CLIP and DINO as PIE-Bench takes them, on small random weights."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional

from invrecon.errors import ModelError
from invrecon.models.judges import Clip, Dino, Lpips
from tests import judges


def picture(seed, side=64):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def lpips(tmp_path):
    """Random weights under the names of the package, and the path of their file."""
    path = tmp_path / "lpips.safetensors"
    return judges.lpips(path), path


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
    network = judges.dino(tmp_path)
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


def test_clip_scores_are_cosines_of_a_picture_and_a_prompt(mini, tmp_path):
    tokenizer = mini.pipeline.tokenizer
    network, prompt = judges.clip(tmp_path, tokenizer), "a red apple on a white ground"
    judge, known = Clip(tmp_path), tokenizer(prompt, return_tensors="pt")
    mean = torch.tensor((0.48145466, 0.4578275, 0.40821073)).view(1, 3, 1, 1)
    std = torch.tensor((0.26862954, 0.26130258, 0.27577711)).view(1, 3, 1, 1)
    cosines = []
    for seed in range(4):
        pixels = torch.tensor(np.array(picture(seed, 32)) / 255).permute(2, 0, 1)[None].float()
        with torch.no_grad():
            seen = network.visual_projection(network.vision_model((pixels - mean) / std).pooler_output)
            read = network.text_projection(network.text_model(known.input_ids).pooler_output)
        cosines.append(functional.cosine_similarity(seen, read).item())
    scores = [judge.score(picture(seed, 32), prompt) for seed in range(4)]
    assert scores == pytest.approx([100 * cosine for cosine in cosines], abs=1e-3)
    assert max(scores) > min(scores) + 0.01
    with_more = [judge.score(picture(0), "a red apple " * often) for often in (20, 40)]
    assert with_more[0] == pytest.approx(with_more[1])  # cut off, not refused


def test_folders_without_weights_are_refused_in_one_line(tmp_path):
    for kind, name in ((Clip, "CLIP"), (Dino, "DINO")):
        with pytest.raises(ModelError, match=f"its {name} can't be read: name a folder with config"):
            kind(tmp_path)
