"""Noise predictions, asked for by several computations and found in one call of the network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from invrecon.core.transition import Transition
from invrecon.solve import Talk, converse, read

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Query:
    """Asks for eps(z, t) of one sample, (1, C, h, w), at the timestep of a transition; with its graph where z requires a gradient."""

    transition: Transition
    latents: Tensor


class Tally:
    """Asks, and counts what it asked; a query with a gradient is one evaluation and a backward pass, which counts as two."""

    def __init__(self) -> None:
        self.evaluations = 0

    def __call__(self, transition: Transition, latents: Tensor) -> Talk[Tensor]:
        self.evaluations += 3 if latents.requires_grad else 1
        return (yield Query(transition, latents))


def answer(asked: Mapping[int, Any]) -> Mapping[int, Any]:
    """Answers readings, of all samples at once; where there are none, queries of the sample furthest from noise, and of all at its step.

    So samples climb side by side: who has solved a step waits at the next, and is not in the network's batch till the others are there.
    Queries with a gradient are answered one by one, so that none pays for another's backward pass.
    """
    if numbers := read(asked):
        return numbers
    time = min(query.transition.time for query in asked.values())
    there = {number: query for number, query in asked.items() if query.transition.time == time}
    plain = {number: query for number, query in there.items() if not query.latents.requires_grad}
    first = next(iter((plain or there).values())).transition
    if not plain:
        with torch.enable_grad():
            return {number: first.denoiser(query.latents, first.timestep) for number, query in there.items()}
    alike = {
        number: query.latents
        for number, query in plain.items()
        if query.transition.denoiser == first.denoiser
    }
    noise = first.denoiser(torch.cat(list(alike.values())), first.timestep)
    return dict(zip(alike, noise.split(1), strict=True))


def alone(talk: Callable[P, Talk[T]]) -> Callable[P, T]:
    """A talk that is answered by itself, as a plain function."""

    @wraps(talk)
    @torch.no_grad()
    def run(*args: P.args, **options: P.kwargs) -> T:
        return converse([talk(*args, **options)], answer)[0]

    return run
