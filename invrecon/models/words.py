"""Prompts as the text encoders get them: learnt words written out, then words and tokens."""

import re
from bisect import bisect_right
from collections.abc import Container
from dataclasses import dataclass
from itertools import count, takewhile
from typing import Any

from invrecon.core.editing.words import Words
from invrecon.errors import UsageError
from invrecon.models.quiet import quiet


def rewritten(pipeline: Any, tokenizer: Any, text: str) -> str:
    """A prompt as the stock pipeline gives it to a tokenizer: learnt words of several vectors name all of
    them."""
    rewrite = getattr(pipeline, "maybe_convert_prompt", None)
    return str(rewrite(text, tokenizer)) if rewrite and text else text


def check_learnt_words(pipeline: Any, tokenizer: Any, name: str, text: str) -> None:
    """Raises UsageError where the network would get other vectors of learnt words than the prompt names: the
    stock pipeline writes out the vectors of one inside another's name, and none of a word in other capitals.

    Args:
        name: "prompt" or "negative prompt".
    """
    with quiet():
        learnt = tokenizer.get_added_vocab()
        tokens = tokenizer.tokenize(text)
        wanted = [vector for token in tokens for vector in _vectors(token, learnt)]
        if len(wanted) == len(tokens) or tokenizer.tokenize(rewritten(pipeline, tokenizer, text)) == wanted:
            return
    used = sorted({token for token in tokens if token in learnt}, key=len)
    for word in used:
        if word not in text:
            raise UsageError(f"the {name} has a learnt word in other letters: write it as {word!r}")
    pairs = ((one, other) for one in used for other in used if one in other and one != other)
    told = " is part of ".join(map(repr, next(pairs, used[:2])))
    raise UsageError(f"the pipeline mixes up learnt words of the {name}, since {told}: use one of them alone")


def _vectors(token: str, learnt: Container[str]) -> list[str]:
    """The names of a learnt word's vectors, as diffusers numbers them."""
    others = takewhile(learnt.__contains__, (f"{token}_{number}" for number in count(1)))
    return [token, *others] if token in learnt else [token]


@dataclass(frozen=True)
class Template:
    """How a prompt is given to a tokenizer.

    Args:
        tokenizer: that takes it.
        limit: tokens that are left of it, those that the tokenizer adds included.
        before, after: what the pipeline writes around it.
        special: whether the tokenizer adds tokens.
    """

    tokenizer: Any
    limit: int
    before: str = ""
    after: str = ""
    special: bool = True

    def count(self, pipeline: Any, text: str) -> int:
        """Tokens of a prompt, all that is around it included."""
        whole = self.before + rewritten(pipeline, self.tokenizer, text) + self.after
        return len(self.tokenizer(whole, add_special_tokens=self.special).input_ids)


def check_length(pipeline: Any, template: Template, name: str, text: str) -> None:
    """Raises UsageError where a prompt has more tokens than are left of it; the text says where to end it.

    Args:
        name: "prompt" or "negative prompt".
    """
    with quiet():
        tokens, around = template.count(pipeline, text), template.count(pipeline, "")
        if tokens <= template.limit:
            return
        ends = [0, *(word.end() for word in re.finditer(r"\S+", text))]
        counted = bisect_right(ends, template.limit, key=lambda end: template.count(pipeline, text[:end]))
    room, last = template.limit - around, ends[max(counted, 1) - 1]
    cure = f"end it after {text[:last][-40:]!r}" if last else "shorten its first word"
    raise UsageError(f"the {name} has {tokens - around} tokens, the text encoder takes {room}: {cure}")


def spell(pipeline: Any, prompt: str) -> Words:
    """The words of a prompt, split at spaces, with the places of their tokens in the text encoders' sequence.

    CLIP's byte pairs never cross a space, so that words can be spelt one by one; this is checked.

    Raises:
        UsageError: there is no U-Net that attends to words, or tokenizers split the prompt differently, so
            that a word has no place of its own.
    """
    names = ("tokenizer", "tokenizer_2")
    tokenizers = [one for name in names if (one := getattr(pipeline, name, None)) is not None]
    if not hasattr(pipeline, "unet") or not tokenizers:
        kind = type(pipeline).__name__
        raise UsageError(f"{kind} has no U-Net that attends to single words: use --mode inject or swap")
    with quiet():
        spans = [_spans(pipeline, tokenizer, prompt) for tokenizer in tokenizers]
    if any(other != spans[0] for other in spans[1:]):
        raise UsageError(
            f"the text encoders split {prompt!r:.60} into different tokens: leave out its learnt words"
        )
    return Words(prompt.lower().split(), spans[0], tokenizers[0].model_max_length)


def _spans(pipeline: Any, tokenizer: Any, prompt: str) -> list[range]:
    def ids(text: str) -> list[int]:
        return list(tokenizer(rewritten(pipeline, tokenizer, text), add_special_tokens=False).input_ids)

    spans, place, spelt = [], 1, []
    for word in prompt.split():
        spelt += ids(word)
        spans.append(range(place, len(spelt) + 1))
        place = len(spelt) + 1
    if spelt != ids(prompt):
        raise UsageError(
            f"the words of {prompt!r:.60} run together in the tokenizer: set spaces around its learnt words, "
            "or leave out one whose name begins another's"
        )
    return spans
