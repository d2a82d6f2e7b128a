"""Networks that judge pictures: LPIPS, CLIP and DINO, from files on the machine alone."""

from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from invrecon.errors import ModelError
from invrecon.models.parts import told
from invrecon.models.quiet import quiet

# SqueezeNet 1.1 as torchvision numbers it: the slices that LPIPS reads, and their channels
_SLICES = ((0, 2), (2, 5), (5, 8), (8, 10), (10, 11), (11, 12), (12, 13))
_CHANNELS = (64, 128, 256, 384, 384, 512, 512)
_FIRES = {3: (64, 16, 64), 4: (128, 16, 64), 6: (128, 32, 128), 7: (256, 32, 128), 9: (256, 48, 192)}
_FIRES |= {10: (384, 48, 192), 11: (384, 64, 256), 12: (512, 64, 256)}


class _Fire(nn.Module):
    def __init__(self, channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu()
        return torch.cat((self.expand1x1(x).relu(), self.expand3x3(x).relu()), 1)


def _layer(number: int) -> nn.Module:
    if number in _FIRES:
        return _Fire(*_FIRES[number])
    if number == 0:
        return nn.Conv2d(3, 64, 3, stride=2)
    return nn.ReLU() if number == 1 else nn.MaxPool2d(3, 2, ceil_mode=True)


class Lpips(nn.Module):
    """Learned perceptual distance with SqueezeNet (Zhang et al. 2018, arXiv:1801.03924), lower is closer:

        Σ_l mean_hw w_l · (y_l(a) - y_l(b))²,      y_l = features of slice l over their norm

    Args:
        file: the weights in safetensors, under the names of the package lpips: net.slice1.0.weight to
            lin6.model.1.weight.

    Raises:
        ModelError: they aren't there.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, file: Path) -> None:
        super().__init__()
        slices = {
            f"slice{number}": nn.ModuleDict({str(layer): _layer(layer) for layer in range(*ends)})
            for number, ends in enumerate(_SLICES, 1)
        }
        self.net = nn.ModuleDict(slices)
        for number, channels in enumerate(_CHANNELS):
            weigh = nn.ModuleDict({"1": nn.Conv2d(channels, 1, 1, bias=False)})
            self.add_module(f"lin{number}", nn.ModuleDict({"model": weigh}))
        with told(f"{file}: its LPIPS"):
            if file.suffix != ".safetensors":
                raise ModelError("is no .safetensors: see invrecon audit-edit --help for how to convert it")
            given = load_file(file)
            self.load_state_dict({name: given[name].float() for name in self.state_dict()})
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1), False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1), False)
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def distance(self, a: Tensor, b: Tensor) -> float:
        """Of pictures (1, 3, H, W) in [-1, 1]."""
        x, total = (torch.cat((a, b)) - self.shift) / self.scale, 0.0
        for number, (part, channels) in enumerate(zip(self.net.values(), _CHANNELS, strict=True)):
            for layer in part.children():
                x = layer(x)
            unit = x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)
            weights = self.get_parameter(f"lin{number}.model.1.weight").view(1, channels, 1, 1)
            total += (weights * (unit[0] - unit[1]).square()).sum(1).mean().item()
        return total


class Clip:
    """100 times the cosine of a picture's and a prompt's embedding, at least 0 (Hessel et al. 2021,
    arXiv:2104.08718). PIE-Bench takes openai/clip-vit-large-patch14.

    Args:
        folder: with the model, its tokenizer and its image processor, in safetensors.

    Raises:
        ModelError: it can't be loaded.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import CLIPModel, CLIPProcessor

        self._model: Any = _pretrained(CLIPModel, folder)
        with told(f"{folder}: its CLIP"), quiet():
            self._processor: Any = CLIPProcessor.from_pretrained(folder, local_files_only=True)

    @torch.no_grad()
    def score(self, picture: Image, prompt: str) -> float:
        """Of a picture and a prompt; words beyond what the text encoder takes are cut off."""
        given = self._processor(
            text=[prompt], images=[picture.convert("RGB")], return_tensors="pt", padding=True, truncation=True
        )
        found = self._model(**given)
        cosine = functional.cosine_similarity(found.image_embeds, found.text_embeds)
        return max(0.0, 100 * cosine.item())


class Dino:
    """Structure distance (Tumanyan et al. 2022, arXiv:2201.00424): the mean squared difference of two
    pictures' cosine similarities between the keys of their patches, in the last layer of a DINO. PIE-Bench
    takes DINO's ViT-B/8.

    Args:
        folder: of a ViT in transformers' layout ("facebook/dino-vitb8"), in safetensors.

    Raises:
        ModelError: it can't be loaded, or has no such keys.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import ViTModel

        self._model: Any = _pretrained(ViTModel, folder, add_pooling_layer=False)
        keys = [
            part
            for name, part in self._model.named_modules()
            if name.endswith((".k_proj", ".attention.key")) and isinstance(part, nn.Linear)
        ]
        if not keys:
            raise ModelError(f"{folder}: its DINO has no attention keys: name a ViT's folder")
        self._keys = keys[-1]

    def distance(self, a: Image, b: Image) -> float:
        """Of two pictures."""
        return functional.mse_loss(self._similarity(a), self._similarity(b)).item()

    @torch.no_grad()
    def _similarity(self, picture: Image) -> Tensor:
        """Between all patches and the class token, (n, n)."""
        import numpy as np

        # PIE-Bench gives levels from 0 to 255 where DINO expects 0 to 1; its figures are of that
        pixels = torch.from_numpy(np.array(picture.convert("RGB"), np.float32)).permute(2, 0, 1)[None]
        scale = 224 / min(pixels.shape[-2:])
        height, width = (max(224, int(scale * side)) for side in pixels.shape[-2:])
        pixels = functional.interpolate(pixels, (height, width), mode="bilinear", antialias=True)
        mean, std = (torch.tensor(one).view(1, 3, 1, 1) for one in _IMAGENET)
        kept: list[Tensor] = []
        hook = self._keys.register_forward_hook(lambda *given: kept.append(given[-1]))
        try:
            self._model((pixels - mean) / std, interpolate_pos_encoding=True)
        finally:
            hook.remove()
        keys = functional.normalize(kept[0][0], dim=-1)
        return keys @ keys.T


_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _pretrained(kind: Any, folder: Path, **options: Any) -> nn.Module:
    """A network of transformers from a folder. Raises ModelError where weights are missing."""
    name = "CLIP" if "CLIP" in kind.__name__ else "DINO"
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: its {name} can't be read: name a folder with config.json and weights")
    with told(f"{folder}: its {name}"), quiet():
        module, info = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True, **options
        )
        if info["missing_keys"]:
            raise ModelError(f"lacks {len(info['missing_keys'])} weights ({min(info['missing_keys'])})")
    module.requires_grad_(False).eval()
    return module
