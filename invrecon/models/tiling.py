"""An autoencoder that works in tiles, where the memory asks for it."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from invrecon.models.memory import free_memory

LAYERS_AT_ONCE = 8
"""What a pass through the decoder and back takes at its fullest, blocks made anew (gradient checkpointing),
over the largest input and output of one layer: 7.3 in Stable Diffusion's at 256 x 256 pixels; a pass without
gradients takes 1 to 2.2.
"""


class Tiling:
    """Whether an autoencoder works in tiles, decided once for each size of picture.

    Each tile is normalised by itself and a tile's size is fixed, which costs several dB: D(E(x)) falls from
    33.0 to 22.2 dB at 512 x 512 pixels with the bundled model's tiles of 256. So pictures are cut only where
    they are larger than a tile, and `LAYERS_AT_ONCE` of the largest layer don't fit into the free memory.

    Args:
        autoencoder: diffusers'; it is tiled at most if its `use_tiling` is on.
        device: whose memory counts.
        latents: those of a picture of 64 x 64 pixels, as its decoder takes them.
    """

    def __init__(self, autoencoder: Any, device: torch.device, latents: Callable[[], Tensor]) -> None:
        self.autoencoder, self.device, self.latents = autoencoder, device, latents
        self.wanted = bool(getattr(autoencoder, "use_tiling", False))
        self._decided: dict[tuple[int, int], bool] = {}

    def used(self, width: int, height: int) -> bool:
        """Whether pictures of this size are cut, pixels."""
        size = width, height
        if size not in self._decided:
            self._decided[size] = self.wanted and self._exceeds_tile(*size) and not self._fits(*size)
        return self._decided[size]

    def prepare(self, width: int, height: int) -> None:
        """Sets the autoencoder up for pictures of this size, pixels."""
        if self.wanted:
            self.autoencoder.use_tiling = self.used(width, height)

    def _exceeds_tile(self, width: int, height: int) -> bool:
        side = getattr(self.autoencoder, "tile_sample_min_size", 0)
        limits = [getattr(self.autoencoder, f"tile_sample_min_{name}", side) for name in ("width", "height")]
        return width > limits[0] or height > limits[1]

    def _fits(self, width: int, height: int) -> bool:
        return self.bytes_of_pass(width, height) < free_memory(self.device)

    def bytes_of_pass(self, width: int, height: int) -> float:
        """What a pass through the decoder and back takes at its fullest, uncut."""
        return LAYERS_AT_ONCE * self._layer_bytes * width * height

    @cached_property
    @torch.no_grad()
    def _layer_bytes(self) -> float:
        """Bytes a pixel of the largest input and output of one layer of the decoder, seen on 64 x 64
        pixels.
        """
        vae, largest = self.autoencoder, 0

        def note(_module: Any, inputs: tuple[Any, ...], output: Any) -> None:
            nonlocal largest
            seen = [each.nbytes for each in (*inputs, output) if isinstance(each, Tensor)]
            largest = max(largest, sum(seen))

        leaves = [module for module in vae.decoder.modules() if not any(module.children())]
        hooks = [module.register_forward_hook(note) for module in leaves]
        latents, tiles = self.latents(), getattr(vae, "use_tiling", False)
        vae.use_tiling = False
        try:
            vae.decode(latents.to(self.device, vae.dtype))
        finally:
            vae.use_tiling = tiles
            for hook in hooks:
                hook.remove()
        return largest / 64**2
