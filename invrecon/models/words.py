"""Prompts as words and tokens."""

from typing import Any

from invrecon.core.editing.words import Words


def spell(tokenizer: Any, prompt: str) -> Words:
    """The words of a prompt, split at spaces, with the places of their tokens in the text encoder's sequence.

    CLIP's byte pairs never cross a space, so that words can be spelt one by one.
    """
    words = prompt.lower().split()
    spans, place = [], 1
    for word in words:
        count = len(tokenizer(word, add_special_tokens=False).input_ids)
        spans.append(range(place, place + count))
        place += count
    return Words(words, spans, tokenizer.model_max_length)
