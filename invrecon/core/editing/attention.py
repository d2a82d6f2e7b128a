"""Attention as editing sees it: where it happens, and what it is computed from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


@dataclass(frozen=True)
class Site:
    """One attention layer of a network.

    Args:
        name: as the network calls it.
        cross: whether keys and values come from the text, rather than from the picture itself.
        depth: its place among the layers of its kind in running order, in [0, 1).
    """

    name: str
    cross: bool
    depth: float


@dataclass(frozen=True)
class Heads:
    """Queries (B, H, N, d), keys and values (B, H, M, d) of H heads, for N places of the picture and M of the
    picture or text.
    """

    query: Tensor
    key: Tensor
    value: Tensor

    def probabilities(self) -> Tensor:
        """softmax(Q Kᵀ / sqrt(d)), (B, H, N, M); rows sum to 1."""
        return (self.query @ self.key.mT * self.query.shape[-1] ** -0.5).softmax(-1)

    def attend(self) -> Tensor:
        """softmax(Q Kᵀ / sqrt(d)) V, (B, H, N, d)."""
        return scaled_dot_product_attention(self.query, self.key, self.value)

    def spread(self, batch: int) -> "Heads":
        """For a batch of another size: its last item for each."""
        if len(self.query) == batch:
            return self
        return Heads(*(part[-1:].expand(batch, -1, -1, -1) for part in (self.query, self.key, self.value)))

    def last(self) -> "Heads":
        """Of the batch's last item: under guidance, the branch that sees the prompt."""
        return Heads(self.query[-1:], self.key[-1:], self.value[-1:])


Watcher = Callable[[Site, Heads], Tensor]
"""Stands in for an attention layer: given its heads, returns what it gives, (B, H, N, d)."""


class Attention(Protocol):
    """The attention layers of a denoiser; all go through `watcher` while there is one."""

    watcher: Watcher | None


class Memory:
    """Remembers the heads of every layer; a watcher that changes nothing."""

    def __init__(self) -> None:
        self.heads: dict[str, Heads] = {}

    def __call__(self, site: Site, heads: Heads) -> Tensor:
        self.heads[site.name] = heads
        return heads.attend()

    def recall(self, site: Site) -> Heads:
        """The heads of a layer."""
        return self.heads[site.name]

    def finish(self) -> None:
        """Nothing is left to check."""
