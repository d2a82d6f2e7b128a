"""Computations that run side by side, so that what several of them need is found in one go.

A `Talk` is a generator: it yields what it asks for, is sent the answer, and returns its result. Each is written as if it were alone;
`converse` brings the questions of many before one answerer, which may take any number of them together. One that has returned asks
no more, and so costs no more.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

Talk = Generator[Any, Any, T]
"""Yields questions, is sent their answers, returns T."""

Answer = Callable[[Mapping[int, Any]], Mapping[int, Any]]
"""Given what is asked, by the number of who asks, answers one question or more; the others stand."""


@dataclass(frozen=True, eq=False)
class Read:
    """Asks for numbers (n,) as a list of floats. The host waits for the device at each reading, and so reads for all at once."""

    numbers: Tensor


def converse(talks: Sequence[Talk[T]], answer: Answer) -> list[T]:
    """Runs talks side by side until all have returned; their results, in order."""
    results: dict[int, T] = {}
    asked: dict[int, Any] = {}
    replies: Mapping[int, Any] = dict.fromkeys(range(len(talks)))  # None starts a generator
    while replies:
        for number, reply in replies.items():
            asked.pop(number, None)
            try:
                asked[number] = talks[number].send(reply)
            except StopIteration as end:
                results[number] = end.value
        replies = answer(asked) if asked else {}
    return [results[number] for number in range(len(talks))]


def read(asked: Mapping[int, Any]) -> dict[int, list[float]]:
    """Answers every `Read` there is, by one transfer from the device."""
    wanted = {number: question.numbers for number, question in asked.items() if isinstance(question, Read)}
    if not wanted:
        return {}
    found = iter(torch.cat(list(wanted.values())).tolist())
    return {number: list(islice(found, len(each))) for number, each in wanted.items()}
