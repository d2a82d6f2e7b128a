"""Networks that judge pictures, of small random weights, as files and folders."""

import numpy as np
import torch
import transformers
from safetensors.torch import save_file

# of SqueezeNet 1.1 by layer: slice, channels in, squeezed and expanded
_FIRES = {
    3: (2, 64, 16, 64),
    4: (2, 128, 16, 64),
    6: (3, 128, 32, 128),
    7: (3, 256, 32, 128),
    9: (4, 256, 48, 192),
    10: (5, 384, 48, 192),
    11: (6, 384, 64, 256),
    12: (7, 512, 64, 256),
}


def lpips(path):
    """Writes LPIPS's weights under the names of the package; returns them."""
    torch.manual_seed(0)
    weights = {"net.slice1.0.weight": torch.randn(64, 3, 3, 3) / 5, "net.slice1.0.bias": torch.zeros(64)}
    for layer, (number, given, thin, expanded) in _FIRES.items():
        for part, shape in {
            "squeeze": (thin, given, 1, 1),
            "expand1x1": (expanded, thin, 1, 1),
            "expand3x3": (expanded, thin, 3, 3),
        }.items():
            start = f"net.slice{number}.{layer}.{part}"
            weights[f"{start}.weight"] = torch.randn(shape) * (2 / np.prod(shape[1:])) ** 0.5
            weights[f"{start}.bias"] = torch.randn(shape[0]) / 10
    for number, channels in enumerate((64, 128, 256, 384, 384, 512, 512)):
        weights[f"lin{number}.model.1.weight"] = torch.rand(1, channels, 1, 1)
    weights = {name: value.float() for name, value in weights.items()}
    save_file(weights, path)
    return weights


def clip(folder, tokenizer):
    """Writes a CLIP with its tokenizer and image processor; returns it."""
    torch.manual_seed(0)
    layers = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": tokenizer.model_max_length,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    config = transformers.CLIPConfig(
        text_config=layers | text,
        vision_config=layers | {"image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    network = transformers.CLIPModel(config).eval()
    for projection in (network.text_projection, network.visual_projection):
        projection.weight.data.abs_()
    for norm in (network.text_model.final_layer_norm, network.vision_model.post_layernorm):
        norm.bias.data.fill_(0.5)  # so that cosines are above 0, where scores end
    network.save_pretrained(folder)
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
    transformers.CLIPProcessor(processor, tokenizer).save_pretrained(folder)
    return network


def dino(folder):
    """Writes a ViT; returns it."""
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, patch_size=56
    )
    network = transformers.ViTModel(config, add_pooling_layer=False).eval()
    network.save_pretrained(folder)
    return network
