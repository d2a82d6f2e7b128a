"""Prompt-to-prompt (arXiv:2208.01626): the target looks at its words where the source looked at theirs."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from invrecon.core.editing.attention import Heads, Memory, Site
from invrecon.core.editing.branches import Mode
from invrecon.core.editing.words import Alignment, Words

LARGEST = 1024  # places of the picture up to which self-attention is taken over; finer layers draw details


@dataclass(frozen=True)
class PromptToPrompt:
    """Attention taken over from the source, then weighed word by word; values stay the target's.

        cross-attention, of the branch that sees the prompt:
            (share P_source M + (1 - share) P_target) diag(weights) V_target
        self-attention, of all branches:
            P_source V_target

    Args:
        weights: (L,), of the target's tokens; 1 leaves them.
        cross_steps, self_steps: for which part of the steps each is taken over, in [0, 1]; weights count at
            all steps.
    """

    alignment: Alignment
    weights: Tensor
    cross_steps: float
    self_steps: float

    def remember(self) -> Memory:
        return Memory()

    def steers(self, progress: float) -> bool:
        return progress < max(self.cross_steps, self.self_steps) or bool((self.weights != 1).any())

    def __call__(self, progress: float, site: Site, source: Heads, target: Heads) -> Tensor:
        if site.cross:
            return self._cross(progress, source, target)
        if progress < self.self_steps and target.query.shape[-2] <= LARGEST:
            return source.spread(len(target.query)).probabilities() @ target.value
        return target.attend()

    def _cross(self, progress: float, source: Heads, target: Heads) -> Tensor:
        probabilities = target.probabilities()
        prompted = probabilities[-1:]
        if progress < self.cross_steps:
            share, matrix = (part.to(prompted) for part in (self.alignment.share, self.alignment.matrix))
            prompted = share * (source.last().probabilities() @ matrix) + (1 - share) * prompted
        return torch.cat((probabilities[:-1], prompted * self.weights.to(prompted))) @ target.value


def p2p(alignment: Alignment, weights: Tensor, cross_steps: float, self_steps: float) -> Mode:
    """Prompt-to-prompt; see `PromptToPrompt`."""
    return Mode(control=PromptToPrompt(alignment, weights, cross_steps, self_steps))


def token_weights(words: Words, weights: Mapping[str, float]) -> Tensor:
    """(L,): the weight of each token's word, 1 where it has none.

    Raises:
        KeyError: a word that the prompt doesn't have.
    """
    tokens = torch.ones(words.length)
    for word, weight in weights.items():
        places = [
            place
            for known, span in zip(words.words, words.spans, strict=True)
            if known == word.lower()
            for place in span
        ]
        if not places:
            raise KeyError(word)
        tokens[places] = weight
    return tokens
