"""MasaCtrl (arXiv:2304.08465): mutual self-attention, the target's layout filled with the source's looks."""

from dataclasses import dataclass

from torch import Tensor

from invrecon.core.editing.attention import Heads, Memory, Site
from invrecon.core.editing.branches import Mode


@dataclass(frozen=True)
class MutualSelfAttention:
    """Self-attention of the target's queries to the source's keys and values:

        softmax(Q_target K_sourceᵀ / sqrt(d)) V_source

    Args:
        start_step, start_layer: from which part of the steps and of the layers on, in [0, 1].
    """

    start_step: float
    start_layer: float

    def remember(self) -> Memory:
        return Memory()

    def steers(self, progress: float) -> bool:
        return progress >= self.start_step

    def __call__(self, progress: float, site: Site, source: Heads, target: Heads) -> Tensor:
        if site.cross or site.depth < self.start_layer:
            return target.attend()
        source = source.spread(len(target.query))
        return Heads(target.query, source.key, source.value).attend()


def masactrl(start_step: float, start_layer: float) -> Mode:
    """Mutual self-attention; see `MutualSelfAttention`."""
    return Mode(control=MutualSelfAttention(start_step, start_layer))
