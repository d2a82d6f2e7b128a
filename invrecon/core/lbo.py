"""Latent Bias Optimization: the seed noise from which the plain sampler returns to given image latents.

Source of the idea: "Latent Bias Alignment for High-Fidelity Diffusion Inversion in Real-World Image Reconstruction and
Manipulation" (Chen et al. 2026). Its details were not public to us; the prediction of eps, the gradient-free solvers and
the estimate of the residual are our own derivation.

The inversion of one sample is a talk (`climbing`); a batch is many of them, side by side, that share the calls of the network.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from invrecon.core.budget import Ration
from invrecon.core.denoiser import Denoiser
from invrecon.core.extrapolation import Extrapolation
from invrecon.core.multistep import sweeping
from invrecon.core.query import Tally, alone, answer
from invrecon.core.schedule import Schedule
from invrecon.core.transition import Transition, transitions
from invrecon.solve import Limit, Outcome, Read, Solution, Strategy, Talk, converse, make_strategy

GRAIN = 16  # units in the last place of latents: a residual below so many that stalls is but rounding
ROUNDED = 0.4  # part of what rounding may leave that need not be undercut: there it costs evaluations and gains little


@dataclass(frozen=True)
class StepRecord:
    """How one inversion step went.

    Args:
        timestep: t, as the network is told.
        residual: ‖Phi(z_t) - z_s‖ / ‖z_s‖ at the z_t that was kept; an estimate where `checked` is False.
        evaluations: network evaluations that the step took, a backward pass counted as two.
        bias: ‖b_t‖ / ‖z_t‖, the size of the latent bias that was learnt.
        method: what found the z_t that was kept: "anderson", "picard", "adam", or "damped" for Anderson's with damping.
    """

    timestep: float
    residual: float
    checked: bool
    evaluations: int
    bias: float
    outcome: Outcome
    method: str


@dataclass(frozen=True)
class Inversion:
    """The seed noise z_T, (1, C, h, w), with the record and the noise prediction eps(z_t, t) of every step, from image to noise."""

    latents: Tensor
    records: list[StepRecord]
    noises: list[Tensor]


OnRecord = Callable[[StepRecord], None]


@sweeping
def climbing(
    denoiser: Denoiser,
    schedule: Schedule,
    image_latents: Tensor,
    *,
    solver: str = "auto",
    rtol: float = 1.8e-3,
    max_evaluations: int = 60,
    mean_evaluations: float = math.inf,
    precision: float = 0.0,
    warm: Inversion | None = None,
    on_step: OnRecord | None = None,
    offsets: Sequence[Tensor] | None = None,
) -> Talk[Inversion]:
    """Finds z_T with generate(z_T) = z_0, step after step, from t_1 up to t_T:

        z_t = (z_s - B e) / A + b_t,      b_t = argmin_b ‖Phi(z_t(b)) - z_s‖²

    where e is eps as foretold from the steps before (at the first step, eps(z_s, t), as in plain DDIM inversion). With `warm`,
    only the difference to that inversion's eps is foretold. Only z_T matters afterwards: the way down is the unmodified sampler.

    Args:
        denoiser: eps(z, t), guidance included.
        schedule: the sampler's steps.
        image_latents: z_0, (1, C, h, w); its dtype is that of the whole computation.
        solver: "auto", "anderson", "picard" or "adam".
        rtol: what the relative errors of all T steps may add up to in the regenerated latents: a step has converged when
            ‖Phi(z_t) - z_s‖ < rtol / (g(a_s / a_0) T) ‖z_s‖  with g of `growth` (see `solving` for steps that contract slowly,
            and `precision`).
        max_evaluations: budget of iterations a step.
        mean_evaluations: budget of network evaluations a step, on average, >= 2; it takes the place of `rtol` and `max_evaluations`
            (see `Ration`). "auto" then stays with Anderson: what damping and gradients would spend on one step is worth more to the others.
        precision: relative error that rounding may leave in the denoiser's output. A step whose residual stops falling at that level,
            or at that of the latents' own rounding, is as exact as can be, and none is asked for less than `ROUNDED` a_s / a_0 of it.
        warm: an inversion of image latents close to these, on the same schedule.
        on_step: called after every step.
        offsets: what a multistep sampler adds to each step, from noise to image; `sweeping` finds them.

    Returns:
        Finite latents, if `image_latents` are; steps that did not converge are in the records, none is raised.
    """
    if len(image_latents) != 1:
        raise ValueError(
            f"one sample is inverted at a time, not {len(image_latents)}; `invert_batch` takes several"
        )
    ask = Tally()
    ration = None if math.isinf(mean_evaluations) else Ration(schedule)
    strategy = make_strategy("anderson" if ration and solver == "auto" else solver)
    history = Extrapolation()
    latents = image_latents
    [size] = yield Read(torch.linalg.vector_norm(latents)[None])
    records: list[StepRecord] = []
    noises: list[Tensor] = []
    known = warm.noises if warm else [torch.zeros_like(image_latents)] * len(schedule)
    for transition, base in zip(reversed(transitions(denoiser, schedule, offsets)), known, strict=True):
        before = ask.evaluations
        cold = not (history or warm)
        noise = (yield from ask(transition, latents)) if cold else base + history.predict(transition.time)
        start = transition.up(latents, noise)
        rounding = GRAIN * torch.finfo(latents.dtype).eps + precision * abs(
            transition.B
        ) * latents.numel() ** 0.5 / (size or 1.0)
        floor: Limit = rounding
        tolerance: Limit = max(
            rtol / (growth(transition.level) * len(schedule)), ROUNDED * rounding * transition.level
        )
        most: float = max_evaluations
        if ration:
            left = mean_evaluations * len(schedule) - ask.evaluations
            tolerance = partial(ration.tolerance, len(records), left)
            most = max(1, left - (len(schedule) - len(records) - 1))
            if 2 * len(records) >= len(schedule):
                floor = partial(_spending, rounding, left / (len(schedule) - len(records)))
        solution = yield from _solve_step(
            ask, strategy, transition, latents, size, start, tolerance, int(most), floor
        )
        moved, size = yield Read(
            torch.stack([torch.linalg.vector_norm(z) for z in (solution.x - start, solution.x)])
        )
        record = StepRecord(
            timestep=transition.timestep,
            residual=solution.residual,
            checked=solution.checked,
            evaluations=ask.evaluations - before,
            bias=moved / max(size, 1e-30),
            outcome=Outcome.ROUNDED
            if solution.residual < rounding and not solution.outcome.solved
            else solution.outcome,
            method=solution.method,
        )
        noises.append(transition.implied_noise(latents, solution.x))
        if transition.B:
            history.append(transition.time, noises[-1] - base)
        latents = solution.x
        records.append(record)
        if on_step:
            on_step(record)
    return Inversion(latents, records, noises)


invert = alone(climbing)


def growth(level: float) -> float:
    """How many times its size an error in z_s can have on the way down:  g(l) = (1 + 4 l² (1 - l²)) / l,  with l = a_s / a_0.

    1 / l is the growth where the network takes none of the error for noise. Half-way it is more, since a small change there decides
    what the picture will be: up to twice as much on `mini`, by measurement.
    """
    return (1 + 4 * level**2 * (1 - level**2)) / level


def _spending(rounding: float, share: float, iteration: int) -> float:
    """What ends a step of a budget's later half: rounding, once it took its share of what is left, which nothing else would need."""
    return rounding if iteration >= share else 0.0


@torch.no_grad()
def invert_batch(
    denoiser: Denoiser,
    schedule: Schedule,
    image_latents: Tensor,
    *,
    warm: Sequence[Inversion | None] = (),
    **options: Any,
) -> list[Inversion]:
    """`invert` for B samples at once, each to its own tolerance, with its own records, as if it were alone.

    One call of the network carries all samples that are still at work on a step; a sample that has solved it waits for them at the next,
    and costs nothing. Numbers are read from the device once an iteration and once a step, for all samples together. Where the
    solver falls back on gradients, these are taken sample by sample.

    Args:
        image_latents: z_0, (B, C, h, w).
        warm: for each sample, an inversion of image latents close to its own, or None.
        options: as for `invert`.
    """
    starts = zip(image_latents.split(1), warm or [None] * len(image_latents), strict=True)
    return converse(
        [climbing(denoiser, schedule, z_0, warm=close, **options) for z_0, close in starts], answer
    )


def _solve_step(
    ask: Tally,
    strategy: Strategy,
    transition: Transition,
    target: Tensor,
    size: float,
    start: Tensor,
    rtol: Limit,
    max_iterations: int,
    floor: Limit,
) -> Talk[Solution]:
    """Phi(z) = z_s as a fixed point,  f(z) = (z_s - B eps(z, t)) / A,  where  f(z) - z = (z_s - Phi(z)) / A.  `size` is ‖z_s‖."""

    def fixed_point(latents: Tensor) -> Talk[Tensor]:
        noise = yield from ask(transition, latents)
        with torch.set_grad_enabled(latents.requires_grad):
            return transition.up(target, noise)

    scale = size / transition.A or 1.0
    gain = transition.B / transition.A
    return strategy(
        fixed_point, start, rtol=rtol, scale=scale, max_iterations=max_iterations, gain=gain, floor=floor
    )
