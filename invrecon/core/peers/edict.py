"""EDICT: two latents that step in turns, each given the other, so that every step can be undone."""

import torch
from torch import Tensor

from invrecon.core.denoiser import GuidedDenoiser
from invrecon.core.peers.peer import Peer, Stored
from invrecon.core.schedule import Schedule
from invrecon.core.transition import Transition, transitions

P = 0.93


def edict(evaluations: int | None = None) -> Peer:
    """Exact diffusion inversion via coupled transformations (arXiv:2211.12446), p = 0.93. One step down, from
    (x, y):

        x <- A x + B eps(y),    y <- A y + B eps(x),    x <- p x + (1 - p) y,    y <- p y + (1 - p) x

    Both begin as z_0; the seeds (x, y) are kept, and x is the image. Always two evaluations a step.
    """
    return Peer(
        "EDICT", "B", _invert, _generate, note="The pair takes turns in who goes first, from step to step."
    )


@torch.no_grad()
def _invert(guided: GuidedDenoiser, schedule: Schedule, image_latents: Tensor) -> Stored:
    pair = image_latents, image_latents
    for number, transition in reversed(list(enumerate(transitions(guided, schedule)))):
        pair = _in_turn(number, _up(transition, *_in_turn(number, pair)))
    return Stored(pair[0], {"y": pair[1]})


@torch.no_grad()
def _generate(guided: GuidedDenoiser, schedule: Schedule, stored: Stored) -> Tensor:
    pair = stored.latents, stored.extras["y"]
    for number, transition in enumerate(transitions(guided, schedule)):
        pair = _in_turn(number, _down(transition, *_in_turn(number, pair)))
    return pair[0]


def _in_turn(number: int, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The pair, swapped at every other step."""
    return pair[::-1] if number % 2 else pair


def _down(transition: Transition, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    x = transition.A * x + transition.B * transition.denoiser(y, transition.timestep)
    y = transition.A * y + transition.B * transition.denoiser(x, transition.timestep)
    x = P * x + (1 - P) * y
    return x, P * y + (1 - P) * x


def _up(transition: Transition, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """`_down`, line by line backwards."""
    y = (y - (1 - P) * x) / P
    x = (x - (1 - P) * y) / P
    y = transition.up(y, transition.denoiser(x, transition.timestep))
    return transition.up(x, transition.denoiser(y, transition.timestep)), y
