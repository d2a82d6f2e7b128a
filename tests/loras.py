"""LoRAs with random weights, in the formats that are in circulation, and what they do to weights: to each
w alpha / rank  up down  is added.
"""

import json
import re
from functools import partial

import torch
from safetensors.torch import save_file
from torch import nn

from tests.single_file import unet_name

RANK, ALPHA = 4, 2.0
LAYERS = {
    "transformer": r"to_[qkv]$",
    "unet": r"attn\d\.to_|ff\.net|proj_",
    "text_encoder": r"self_attn|mlp",
    "text_encoder_2": r"self_attn",
}
KOHYA = {"unet": "lora_unet_", "text_encoder": "lora_te_", "text_encoder_2": "lora_te2_"}
ATTENTION = {"to_q", "to_k", "to_v", "q_proj", "v_proj"}


def layers(pipe, parts):
    """(part, name, module) of the layers that a LoRA changes."""
    for part in parts:
        for name, module in getattr(pipe, part).named_modules():
            if re.search(LAYERS[part], name) and isinstance(module, nn.Linear | nn.Conv2d):
                yield part, name, module


def pair(module, strength, rank=RANK):
    """(down, up) for a layer."""
    if isinstance(module, nn.Conv2d):
        down = torch.randn(rank, module.in_channels, *module.kernel_size)
        up = torch.randn(module.out_channels, rank, 1, 1)
    else:
        down, up = torch.randn(rank, module.in_features), torch.randn(module.out_features, rank)
    return down * strength, up * strength


def kohya_name(part, name, xl):
    if part != "unet":
        return f"{KOHYA[part]}text_model_{name.removeprefix('text_model.')}".replace(".", "_").replace(
            "lora_te_", "lora_te1_" if xl else "lora_te_"
        )
    if xl:
        name = unet_name(f"{name}.weight").removeprefix("model.diffusion_model.").removesuffix(".weight")
    return f"lora_unet_{name}".replace(".", "_")


def kohya(pipe, path, parts, strength=0.3, alphas=(ALPHA,)):
    """As kohya's scripts write it: names joined by underscores, SDXL's of its authors; one alpha a layer."""
    weights, changes = {}, {}
    for number, (part, name, module) in enumerate(layers(pipe, parts)):
        base, alpha = kohya_name(part, name, hasattr(pipe, "text_encoder_2")), alphas[number % len(alphas)]
        down, up = pair(module, strength)
        weights |= {f"{base}.lora_down.weight": down, f"{base}.lora_up.weight": up}
        if alpha is not None:
            weights[f"{base}.alpha"] = torch.tensor(alpha)
        changes[part, name] = (1.0 if alpha is None else alpha / RANK) * _product(up, down)
    save_file(weights, path)
    return changes


def peft(pipe, path, parts, strength=0.3, alpha=8):
    """As diffusers' own scripts write it: peft's names, and its configuration as metadata."""
    weights, changes, told = {}, {}, {}
    for part, name, module in layers(pipe, parts):
        if name.rpartition(".")[2] not in ATTENTION:
            continue
        down, up = pair(module, strength)
        weights |= {f"{part}.{name}.lora_A.weight": down, f"{part}.{name}.lora_B.weight": up}
        targets = sorted(ATTENTION)
        told |= {f"{part}.r": RANK, f"{part}.lora_alpha": alpha, f"{part}.target_modules": targets}
        changes[part, name] = alpha / RANK * _product(up, down)
    save_file(weights, path, metadata={"lora_adapter_metadata": json.dumps(told)})
    return changes


FORMATS = {"kohya": kohya, "kohya, own alphas": partial(kohya, alphas=(1.0, 8.0, 0.5, None)), "peft": peft}


@torch.no_grad()
def merge(pipe, changes, weight):
    """Adds a LoRA's changes to the weights of a pipeline."""
    for (part, name), change in changes.items():
        module = getattr(pipe, part).get_submodule(name)
        module.weight += weight * change.reshape(module.weight.shape)
    return pipe


def _product(up, down):
    return torch.einsum("or,r...->o...", up.flatten(1), down)
