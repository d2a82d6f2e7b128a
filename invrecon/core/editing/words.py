"""Which word of one prompt is which of the other, and which things they name."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import torch
from torch import Tensor

# Words that name nothing to be seen, in captions as people write them for CLIP
_FUNCTION_WORDS = (
    "a an the this that some and or but of on in at by with without from to under over"
    " behind before beside near next is are"
    " photo photograph picture image drawing painting sketch rendering close-up"
)


@dataclass(frozen=True)
class Words:
    """A prompt as the text encoder sees it.

    Args:
        words: in lower case.
        spans: the tokens of each word, as places in the encoder's sequence; place 0 is the start token.
        length: of that sequence, end token and padding included.
    """

    words: Sequence[str]
    spans: Sequence[range]
    length: int

    @property
    def end(self) -> int:
        """The place of the end token, after which padding follows."""
        return self.spans[-1].stop if self.spans else 1


@dataclass(frozen=True)
class Alignment:
    """How attention to the source's tokens becomes attention to the target's:  P = share P_source M + (1 -
    share) P_target.

    Args:
        matrix: M, (L, L); column j spreads source tokens' attention on target token j.
        share: (L,) in {0, 1}; 0 where a target token has no counterpart and looks for itself.
    """

    matrix: Tensor
    share: Tensor


def align(source: Words, target: Words, *, replace: bool = True) -> Alignment:
    """Pairs the words that both prompts have in the same order, and the start, end and padding tokens.

    Args:
        replace: whether words that stand in the place of as many others take over their attention, one by one
            (prompt-to-prompt's replacement); else they look for themselves (its refinement).
    """
    matrix = torch.zeros(source.length, target.length)
    matrix[0, 0] = 1
    for i, j in zip(range(source.end, source.length), range(target.end, target.length), strict=False):
        matrix[i, j] = 1
    for kind, i0, i1, j0, j1 in _differences(source, target):
        if kind == "equal" or (kind == "replace" and replace and i1 - i0 == j1 - j0):
            for old, new in zip(source.spans[i0:i1], target.spans[j0:j1], strict=True):
                _pair(matrix, old, new)
    return Alignment(matrix, (matrix.sum(0) > 0).float())


def _pair(matrix: Tensor, old: range, new: range) -> None:
    """Token by token where a word has as many in both prompts; else the word's attention is spread evenly
    over its tokens.
    """
    if len(old) == len(new):
        matrix[list(old), list(new)] = 1
    else:
        matrix[old.start : old.stop, new.start : new.stop] = 1 / len(new)


@dataclass(frozen=True)
class Things:
    """What a prompt names: for each thing the places of its noun's tokens, those that the other prompt
    changes and those it keeps.
    """

    changed: list[range]
    kept: list[range]


def things(source: Words, target: Words) -> tuple[Things, Things]:
    """What either prompt names. A thing is a run of words between those that name nothing; its last word is
    taken for its noun.

    A thing is changed where one of its words is, or where the thing that it is in the other prompt is: from
    "an apple" to "a green apple", both are.
    """
    phrases = _phrases(source), _phrases(target)
    changed = (set(range(len(source.words))), set(range(len(target.words))))
    same = [
        (i, j)
        for kind, i0, i1, j0, j1 in _differences(source, target)
        if kind == "equal"
        for i, j in zip(range(i0, i1), range(j0, j1), strict=True)
    ]
    for i, j in same:
        changed[0].discard(i)
        changed[1].discard(j)
    for _ in range(2):  # from one prompt to the other and back
        for words, runs in zip(changed, phrases, strict=True):
            words |= {i for run in runs if words & set(run) for i in run}
        for i, j in same:
            if i in changed[0] or j in changed[1]:
                changed[0].add(i)
                changed[1].add(j)
    first, second = (
        Things(
            [words.spans[run[-1]] for run in runs if which & set(run)],
            [words.spans[run[-1]] for run in runs if not which & set(run)],
        )
        for words, runs, which in zip((source, target), phrases, changed, strict=True)
    )
    return first, second


def _phrases(words: Words) -> list[range]:
    """Runs of words that name something."""
    naming = [word.strip(".,;:!?") not in _FUNCTION_WORDS.split() for word in words.words]
    starts = [i for i, names in enumerate(naming) if names and not (i and naming[i - 1])]
    return [
        range(start, next((i for i in range(start, len(naming)) if not naming[i]), len(naming)))
        for start in starts
    ]


def _differences(source: Words, target: Words) -> Sequence[tuple[str, int, int, int, int]]:
    return SequenceMatcher(None, source.words, target.words, autojunk=False).get_opcodes()
