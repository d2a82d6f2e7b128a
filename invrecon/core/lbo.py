"""Latent Bias Optimization: the seed noise from which the plain sampler returns to given image latents.

Source of the idea: "Latent Bias Alignment for High-Fidelity Diffusion Inversion in Real-World Image
Reconstruction and Manipulation" (Chen et al. 2026). Its details were not public to us; the prediction of eps,
the gradient-free solvers and the estimate of the residual are our own derivation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from invrecon.core.budget import EvaluationBudget
from invrecon.core.denoiser import Denoiser
from invrecon.core.extrapolation import Cautious, Extrapolation
from invrecon.core.sampling import OnStep
from invrecon.core.schedule import Schedule
from invrecon.core.transition import Transition, transitions
from invrecon.settings import Effort
from invrecon.solve import Criterion, Limit, Outcome, Result, make_strategy

ROUNDING_UNITS = 16  # units in the last place of the latents: the residual that their own rounding may leave
# No step is solved to less than this part of what rounding may leave: evaluations would gain next to nothing
ROUNDING_SHARE = 0.4
STRONG_GUIDANCE = 5.0  # where steps near the image hardly contract, and a line through past eps misleads
MAX_RELAXATION = 3.0  # see `solve.Criterion`


@dataclass(frozen=True)
class StepRecord:
    """How one inversion step went.

    Args:
        timestep: t, as the network is given it.
        residual: ‖Phi(z_t) - z_s‖ / ‖z_s‖ at the z_t that was kept; an estimate where `checked` is False.
        evaluations: network evaluations that the step took, a backward pass counted as two.
        bias: ‖b_t‖ / ‖z_t‖, the size of the latent bias that was learnt.
        method: what found the z_t that was kept: "anderson", "picard", "adam", or "damped" for Anderson's
            with damping.
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
    """The seed noise of one sample, z_T, (1, C, h, w), with the record and the noise prediction eps(z_t, t)
    of every step.

    Records and predictions run from image to noise.
    """

    latents: Tensor
    records: list[StepRecord]
    noises: list[Tensor]

    @property
    def evaluations(self) -> int:
        """Network evaluations of all steps."""
        return sum(record.evaluations for record in self.records)

    @property
    def solved(self) -> int:
        """How many steps were solved to their tolerance, or to what rounding leaves."""
        return sum(record.outcome.solved for record in self.records)


@dataclass(frozen=True)
class Sweep:
    """What an inversion keeps to where it is one of those that `core.multistep` is made of.

    Args:
        offsets: what the sampler adds to each step, from noise to image, T of (B, C, h, w).
        left: evaluations that each sample may still spend, inf where there is no budget.
    """

    offsets: Sequence[Tensor | float]
    left: Sequence[float]


@torch.no_grad()
def invert(
    denoiser: Denoiser,
    schedule: Schedule,
    image_latents: Tensor,
    effort: Effort = Effort(),
    *,
    warm: Sequence[Inversion | None] = (),
    precision: float = 0.0,
    sweep: Sweep | None = None,
    on_step: OnStep | None = None,
) -> list[Inversion]:
    """Finds z_T with generate(z_T) = z_0 for each sample of a batch, step after step, from t_1 up to t_T:

        z_t = (z_s - B e) / A + b_t,      b_t = argmin_b ‖Phi(z_t(b)) - z_s‖²

    where e is eps as predicted from the steps before (at the first step, eps(z_s, t), as in plain DDIM
    inversion). With `warm`, only the difference to that inversion's eps is predicted. Only z_T matters
    afterwards: the way down is the unmodified sampler.

    Each sample has its own tolerance and its own records, as if it were alone. One call of the network
    carries all samples that are still unsolved at a step; a solved sample waits for them at the next step,
    and costs nothing.

    Args:
        denoiser: eps(z, t), guidance included.
        schedule: the sampler's steps, without a memory (see `core.multistep` for those with one).
        image_latents: z_0, (B, C, h, w); their dtype is that of the whole computation.
        effort: `rtol` is what the relative errors of all T steps may add up to in the regenerated latents: a
            step has converged when  ‖Phi(z_t) - z_s‖ < rtol / (g(a_s / a_0) T) ‖z_s‖  with g of `growth`.
            `max_evaluations` bounds the iterations of a step. Where `mean_evaluations` is given, >= 1, it
            takes the place of both (see `EvaluationBudget`), and "auto" stays with Anderson: what damping and
            gradients would spend on one step is worth more to the others. The least, 1, is T + 1 evaluations:
            each step corrects its prediction once,  z_t = (z_s - B eps(z, t)) / A  at  z = (z_s - B e) / A,
            where e is predicted with more caution under strong guidance.
        warm: for each sample, an inversion of image latents close to its own on the same schedule, or None.
        precision: relative error that rounding may leave in the denoiser's output. A step whose residual
            stops falling at that level, or at that of the latents' own rounding, ends there.
        sweep: the offsets and budgets of `core.multistep`.
        on_step: called after every step.

    Returns:
        One for each sample. Latents are finite if `image_latents` are; steps that did not converge are in the
        records, nothing is raised.

    Raises:
        ValueError: the schedule has a memory.
    """
    if schedule.memory:
        raise ValueError("a schedule with a memory is inverted by `core.multistep.invert`")
    left = sweep.left if sweep else [effort.mean_evaluations * len(schedule)] * len(image_latents)
    strong = getattr(denoiser, "weight", 1.0) > STRONG_GUIDANCE
    inverter = _Inverter(schedule, image_latents, effort, warm, precision, left, strong)
    steps = transitions(denoiser, schedule, sweep.offsets if sweep else None)
    for number, transition in enumerate(reversed(steps), 1):
        inverter.step(transition)
        if on_step:
            on_step(number, len(schedule))
    return inverter.inversions()


def growth(signal: float) -> float:
    """How many times its size an error in z_s can have on the way down:  g(l) = (1 + 4 l² (1 - l²)) / l,
    with l = a_s / a_0.

    1 / l is the growth where the network takes none of the error for noise. At middle noise levels it is
    more, since a small change there decides what the picture will be: up to twice as much on `mini`, by
    measurement.
    """
    return (1 + 4 * signal**2 * (1 - signal**2)) / signal


class _Inverter:
    """The state of `invert` between two steps."""

    def __init__(
        self,
        schedule: Schedule,
        image_latents: Tensor,
        effort: Effort,
        warm: Sequence[Inversion | None],
        precision: float,
        left: Sequence[float],
        strong: bool,
    ) -> None:
        self.schedule, self.effort, self.precision = schedule, effort, precision
        self.latents = image_latents
        self.warm = list(warm) or [None] * len(image_latents)
        self.evaluations = [0] * len(image_latents)
        self.taken = torch.zeros(len(image_latents))  # evaluations by the step being solved, on the device
        self.allowed = list(left) or [effort.mean_evaluations * len(schedule)] * len(image_latents)
        self.budget = EvaluationBudget(schedule) if math.isfinite(self.allowed[0]) else None
        solver = "anderson" if self.budget and effort.solver == "auto" else effort.solver
        self.strategy = make_strategy(solver, len(image_latents))
        # of eps, to that of the warm inversion
        self.differences = Cautious() if strong and effort.mean_evaluations == 1 else Extrapolation()
        self.strong = strong
        self.sizes: list[float] = _norms(image_latents).tolist()
        self.records: list[list[StepRecord]] = [[] for _ in range(len(image_latents))]
        self.noises: list[Tensor] = []

    def step(self, transition: Transition) -> None:
        """Solves one step for all samples."""
        before, target, known = list(self.evaluations), self.latents, self._known_noise()
        self.taken = target.new_zeros(len(target))
        start = transition.up(target, known + self._predicted_difference(transition))
        criteria = [self._criterion(sample, transition) for sample in range(len(target))]
        gain = transition.B / transition.A
        solution = self.strategy(partial(self._fixed_point, transition, target), start, criteria, gain)
        self.latents = solution.x
        numbers = torch.stack((_norms(solution.x - start), _norms(solution.x), self.taken))
        moved, sizes, taken = numbers.tolist()
        for sample, result in enumerate(solution.results):
            self.evaluations[sample] += int(taken[sample])
            evaluations = self.evaluations[sample] - before[sample]
            bias = moved[sample] / max(sizes[sample], 1e-30)
            self.records[sample].append(self._record(sample, transition, result, evaluations, bias))
        self.sizes = sizes
        self.noises.append(transition.implied_noise(target, self.latents))
        if transition.B:
            self.differences.append(transition.time, self.noises[-1] - known)

    def inversions(self) -> list[Inversion]:
        """One for each sample."""
        noises = zip(*(noise.split(1) for noise in self.noises), strict=True)
        return [
            Inversion(latents, records, list(own))
            for latents, records, own in zip(self.latents.split(1), self.records, noises, strict=True)
        ]

    def _fixed_point(self, transition: Transition, target: Tensor, latents: Tensor, rows: Tensor) -> Tensor:
        """f(z) = (z_s - B eps(z, t)) / A, for which  f(z) - z = (z_s - Phi(z)) / A."""
        self.taken[rows] += 3 if latents.requires_grad else 1
        noise = transition.denoiser(latents, transition.timestep)
        return transition.of(rows).up(target[rows], noise)

    def _known_noise(self) -> Tensor:
        """eps of the warm inversions at this step, zero for samples without one; (B, C, h, w)."""
        step, zero = len(self.noises), torch.zeros_like(self.latents[:1])
        return torch.cat([warm.noises[step] if warm else zero for warm in self.warm])

    def _predicted_difference(self, transition: Transition) -> Tensor:
        """eps less the known one, extrapolated; where there is nothing to extrapolate, eps(z_s, t) for
        samples that aren't warm.
        """
        if self.differences:
            return self.differences.predict(transition.time)
        noise = torch.zeros_like(self.latents)
        if cold := [sample for sample, warm in enumerate(self.warm) if warm is None]:
            noise[cold] = transition.denoiser(self.latents[cold], transition.timestep)
        for sample in cold:
            self.evaluations[sample] += 1
        return noise

    def _criterion(self, sample: int, transition: Transition) -> Criterion:
        rounding, steps, done = self._rounding(sample, transition), len(self.schedule), len(self.noises)
        floor: Limit = rounding
        rtol: Limit = max(
            self.effort.rtol / (growth(transition.signal) * steps),
            ROUNDING_SHARE * rounding * transition.signal,
        )
        most: float = self.effort.max_evaluations
        if self.budget:
            left = self.allowed[sample] - self.evaluations[sample]
            most = max(1, left - (steps - done - 1))
            if self.strong:  # to each an equal share of what is left
                most = min(most, max(1, round(left / (steps - done))))
            # a single evaluation tells whether the prediction is good, and corrects it in any case
            rtol = partial(self.budget.tolerance, done, left) if most >= 2 else 0.0
            if 2 * done >= steps:
                floor = partial(_floor_after, left / (steps - done), rounding)
        scale = self.sizes[sample] / transition.A or 1.0
        return Criterion(rtol, int(most), scale, floor, MAX_RELAXATION)

    def _rounding(self, sample: int, transition: Transition) -> float:
        """The relative residual that rounding of the latents and of the network's output may leave."""
        latents, size = self.latents[sample], self.sizes[sample] or 1.0
        network = self.precision * abs(transition.B) * latents.numel() ** 0.5 / size
        return ROUNDING_UNITS * torch.finfo(latents.dtype).eps + network

    def _record(
        self, sample: int, transition: Transition, result: Result, evaluations: int, bias: float
    ) -> StepRecord:
        outcome, rounding = result.outcome, self._rounding(sample, transition)
        if result.residual < rounding and not outcome.solved:
            outcome = Outcome.ROUNDED
        return StepRecord(
            timestep=transition.timestep,
            residual=result.residual,
            checked=result.checked,
            evaluations=evaluations,
            bias=bias,
            outcome=outcome,
            method=result.method,
        )


def _floor_after(share: float, rounding: float, iteration: int) -> float:
    """The floor of a step in the later half of a budget: rounding ends the step only once it has taken its
    share of evaluations.

    In that half no later step needs what an earlier end would save.
    """
    return rounding if iteration >= share else 0.0


def _norms(latents: Tensor) -> Tensor:
    """Of each sample, (B,)."""
    return latents.flatten(1).norm(dim=1)
