"""Image Latent Boosting: the image latents that are best for the picture, where the autoencoder's own are
only good.

Source of the idea: "Latent Bias Alignment for High-Fidelity Diffusion Inversion in Real-World Image
Reconstruction and Manipulation" (Chen et al. 2026). Its details were not public to us; the loss, the proximal
term, the stopping rules and the warm start are our own. Measuring distances by what a denoiser takes for
noise comes from regularisation by denoising (Romano et al. 2017, arXiv:1611.02862).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from invrecon.core.descent import descend
from invrecon.core.lbo import Inversion
from invrecon.core.objective import Objective
from invrecon.core.sampler import Sampler

SMALL_GAIN = 10 ** (-0.005 / 10)  # the part of the objective that a bout leaves which gains 0.005 dB
COARSE_SHARE = 1 / 3  # of a descent's decoder steps, which may be in half precision: later it would stall
NORM_TOLERANCE = 0.03  # within which an estimated seed norm is as expected


@dataclass(frozen=True)
class BoostBudget:
    """When to stop, whichever comes first.

    Args:
        rounds: descents, each followed by an inversion, >= 0.
        decoder_steps: passes through the decoder and back in each descent, fewer where they stop
            gaining.
        plain_first: whether E(x) itself is inverted before the first descent, which costs an inversion and
            tells what boosting wins. Without it descent begins at E(x), as if an inversion lost nothing.
        target_psnr: of the regenerated picture, dB.
        seconds: after so long no round is begun, and no block of ten decoder steps.
    """

    rounds: int = 1
    decoder_steps: int = 60
    plain_first: bool = False
    target_psnr: float = math.inf
    seconds: float = math.inf


@dataclass(frozen=True)
class BoostRound:
    """One inversion and what its seed gives back.

    Args:
        psnr: of the regenerated 8-bit picture against the photo, dB.
        distance: rms(z_0 - E(x)) / rms(E(x)), how far the latents were moved.
        decoder_steps: taken before this inversion.
        evaluations: of the network, by this inversion.
    """

    psnr: float
    distance: float
    decoder_steps: int
    evaluations: int


@dataclass(frozen=True)
class Boost:
    """The best round of one photo: its image latents z_0, their inversion, and what that regenerates.

    Args:
        plain: the inversion of E(x); None where it was not made.
        rounds: all of them, in order.
    """

    image_latents: Tensor
    inversion: Inversion
    regenerated: Tensor
    plain: Inversion | None
    rounds: list[BoostRound]


OnDecoderStep = Callable[[int, int], None]
"""Called with (decoder steps done, decoder steps at most)."""


def boost(
    sampler: Sampler,
    objectives: Sequence[Objective],
    budget: BoostBudget = BoostBudget(),
    *,
    known: Sequence[Inversion] = (),
    at_once: int = 1,
    on_step: OnDecoderStep | None = None,
) -> list[Boost]:
    """Adjusts the z_0 of each photo so that D(zhat_0), zhat_0 = generate(invert(z_0)), comes close to the
    photo x:

        argmin_z0  objective(zhat_0)

    jointly and approximately: the Jacobian of generate-after-invert is taken as the identity, so each round
    descends from zhat_0, adds the change to z_0, and inverts again. What the trajectory still loses is
    corrected with the rest. Photos are inverted, regenerated and decoded together.

    Args:
        objectives: one for each photo, all of one shape.
        known: the inversions of E(x), where they are known.
        at_once: photos in one pass through the decoder and back.

    Returns:
        One for each photo; at worst the plain inversion of E(x).
    """
    clock = _Clock(budget, at_once, on_step)
    photos = active = [_Photo(objective) for objective in objectives]
    if not (known or budget.plain_first or budget.rounds == 0):
        _descend(photos, clock)
    inversions = list(known) or sampler.invert(_latents(photos))
    while active:
        _judge(sampler, active, inversions)
        active = [photo for photo in active if photo.goes_on(clock)]
        if active:
            _descend(active, clock)
            inversions = sampler.invert(_latents(active), [photo.inversion for photo in active])
    if worse := [photo for photo in photos if photo.is_worse_than_plain()]:
        for photo in worse:
            photo.restart()
        _judge(sampler, worse, sampler.invert(_latents(worse)))
    return [photo.best for photo in photos]


def descent(objective: Objective, budget: BoostBudget = BoostBudget()) -> tuple[Tensor, int]:
    """One descent of `boost` from E(x), as if an inversion lost nothing: for autoencoders without a network.

    Returns:
        Image latents, (1, C, h, w), and the decoder steps that were taken.
    """
    photo = _Photo(objective)
    _descend([photo], _Clock(budget, 1, None))
    return photo.image_latents, photo.steps


def _latents(photos: Sequence[_Photo]) -> Tensor:
    return torch.cat([photo.image_latents for photo in photos])


@dataclass(frozen=True)
class _Clock:
    """What bounds descents."""

    budget: BoostBudget
    at_once: int
    on_step: OnDecoderStep | None
    begun: float = field(default_factory=time.monotonic)

    def is_over(self) -> bool:
        """Whether the seconds are spent."""
        return time.monotonic() - self.begun >= self.budget.seconds

    def within_budget(self, step: int) -> bool:
        """Whether there are more decoder steps."""
        if self.on_step:
            self.on_step(min(step, self.budget.decoder_steps), self.budget.decoder_steps)
        return step < self.budget.decoder_steps and not self.is_over()


def _descend(photos: Sequence[_Photo], clock: _Clock) -> None:
    """Moves the image latents of all photos by what lowers their objectives from what was regenerated."""
    objectives = [photo.objective for photo in photos]
    gaining = [_while_gaining(objective, clock) for objective in objectives]
    lower = descend(
        lambda latents, numbers: Objective.of_each([objectives[one] for one in numbers], latents),
        torch.cat([photo.regenerated for photo in photos]),
        lambda number, *state: gaining[number](*state),
        clock.at_once,
        lambda: [objective.version for objective in objectives],
    )
    for photo, (latents, steps) in zip(photos, lower, strict=True):
        photo.moved(latents, steps)


def _judge(sampler: Sampler, photos: Sequence[_Photo], inversions: Sequence[Inversion]) -> None:
    """Regenerates all photos, and lets each note what came of its round."""
    regenerated = sampler.generate(torch.cat([inversion.latents for inversion in inversions])).split(1)
    for photo, inversion, one in zip(photos, inversions, regenerated, strict=True):
        photo.judge(inversion, one)


class _Photo:
    """One photo on its way through the rounds."""

    best: Boost
    inversion: Inversion  # of the last round

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.image_latents = self.regenerated = objective.encoded
        self.plain: Inversion | None = None
        self.rounds: list[BoostRound] = []
        self.descents = self.steps = 0

    def judge(self, inversion: Inversion, regenerated: Tensor) -> None:
        """Notes a round, and keeps it if it is the best."""
        encoded = self.objective.encoded
        distance = ((self.image_latents - encoded).norm() / encoded.norm()).item()
        psnr = self.objective.score(regenerated)
        is_best = all(psnr > earlier.psnr for earlier in self.rounds)
        self.rounds.append(BoostRound(psnr, distance, self.steps, inversion.evaluations))
        self.inversion, self.regenerated = inversion, regenerated
        if self.steps == 0:
            self.plain = inversion
        if is_best:
            self.best = Boost(self.image_latents, inversion, regenerated, self.plain, self.rounds)
        else:
            self.best = replace(self.best, plain=self.plain)

    def goes_on(self, clock: _Clock) -> bool:
        """Whether there is another round."""
        budget = clock.budget
        wanted = self.descents < budget.rounds and self.rounds[-1].psnr < budget.target_psnr
        return wanted and not clock.is_over()

    def is_worse_than_plain(self) -> bool:
        """Whether the autoencoder's own latents, which have not been inverted, would do better."""
        if self.plain:
            return False
        return max(one.psnr for one in self.rounds) < self.objective.score(self.objective.encoded)

    def restart(self) -> None:
        """Goes back to the autoencoder's own latents."""
        self.image_latents, self.steps = self.objective.encoded, 0

    def moved(self, lower: Tensor, steps: int) -> None:
        """Moves the image latents as those that were regenerated were moved by descent."""
        self.image_latents = self.image_latents + lower - self.regenerated
        self.steps, self.descents = steps, self.descents + 1


def _while_gaining(objective: Objective, clock: _Clock) -> Callable[[int, float, Tensor], bool]:
    """Computes the seed norm after the first block of decoder steps and every second one from there. Ends the
    descent where the last block gained little in full precision and the norm is as expected.
    """
    values: list[float] = []

    def proceed(step: int, value: float, latents: Tensor) -> bool:
        values.append(value)
        if not clock.within_budget(step):
            return False
        coarse = objective.coarse is not None
        settled = len(values) > 1 and value > SMALL_GAIN * values[-2] and not coarse
        if step >= COARSE_SHARE * clock.budget.decoder_steps:
            objective.refine()
        if len(values) % 2 == 0:
            return True
        if objective.seed_norm is None:
            return not settled
        estimate = objective.estimated_norm(latents).item()
        norm = objective.update_seed_norm(latents)
        if math.isnan(estimate):
            expected = norm < objective.norm_limit + NORM_TOLERANCE
        else:
            expected = abs(norm - estimate) < NORM_TOLERANCE
        return math.isfinite(norm) and not (settled and expected)

    return proceed
