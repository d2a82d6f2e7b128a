"""Image Latent Boosting: the image latents that are best for the picture, where the autoencoder's own are
only good.

Source of the idea: "Latent Bias Alignment for High-Fidelity Diffusion Inversion in Real-World Image
Reconstruction and Manipulation" (Chen et al. 2026). Its details were not public to us; the loss, the proximal
term, the stopping rules and the warm start are our own. Measuring distances by what a denoiser takes for
noise comes from regularisation by denoising (Romano et al. 2017, arXiv:1611.02862).
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from invrecon.core.descent import Proceed, descend
from invrecon.core.lbo import Inversion
from invrecon.core.objective import Objective
from invrecon.core.sampler import Sampler

SMALL_GAIN = 10 ** (-0.005 / 10)  # the part of the objective that a bout leaves which gains 0.005 dB
NORM_TOLERANCE = 0.03  # within which an estimated seed norm is as expected


@dataclass(frozen=True)
class BoostBudget:
    """When to stop, whichever comes first.

    Args:
        rounds: re-inversions after the first inversion, >= 0.
        decoder_steps: passes through the decoder and back between two inversions, fewer where they stop
            gaining.
        target_psnr: of the regenerated picture, dB.
        seconds: after so long no round is begun, and no block of ten decoder steps.
    """

    rounds: int = 1
    decoder_steps: int = 160
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
        plain: the first round's inversion, that of E(x).
        rounds: all of them; the first is not boosted.
    """

    image_latents: Tensor
    inversion: Inversion
    regenerated: Tensor
    plain: Inversion
    rounds: list[BoostRound]


OnDecoderStep = Callable[[int, int, int], None]
"""Called with (photo's number from 0, decoder steps done, decoder steps at most)."""


def boost(
    sampler: Sampler,
    objectives: Sequence[Objective],
    budget: BoostBudget = BoostBudget(),
    *,
    known: Sequence[Inversion] = (),
    on_step: OnDecoderStep | None = None,
) -> list[Boost]:
    """Adjusts the z_0 of each photo so that D(zhat_0), zhat_0 = generate(invert(z_0)), comes close to the
    photo x:

        argmin_z0  objective(zhat_0)

    jointly and approximately: the Jacobian of generate-after-invert is taken as the identity, so each round
    descends from zhat_0, adds the change to z_0, and inverts again. What the trajectory still loses is
    corrected with the rest. Photos are inverted and regenerated together, and descend one by one.

    Args:
        objectives: one for each photo, all of one shape.
        known: the inversions of E(x), where they are known.

    Returns:
        One for each photo; at worst the plain inversion of E(x), which is the first round.
    """
    begun = time.monotonic()
    photos = [_Photo(number, objective, objective.encoded) for number, objective in enumerate(objectives)]
    inversions = list(known) or sampler.invert(torch.cat([photo.image_latents for photo in photos]))
    active = photos
    while active:
        regenerated = sampler.generate(torch.cat([inversion.latents for inversion in inversions])).split(1)
        for photo, inversion, one in zip(active, inversions, regenerated, strict=True):
            photo.judge(inversion, one)
        active = [photo for photo in active if photo.goes_on(budget, begun)]
        for photo in active:
            photo.descend(budget, begun, on_step)
        if active:
            latents = torch.cat([photo.image_latents for photo in active])
            inversions = sampler.invert(latents, [photo.inversion for photo in active])
    return [photo.best for photo in photos]


class _Photo:
    """One photo on its way through the rounds."""

    best: Boost
    inversion: Inversion  # of the last round, with what it regenerates
    regenerated: Tensor

    def __init__(self, number: int, objective: Objective, image_latents: Tensor) -> None:
        self.number, self.objective, self.image_latents = number, objective, image_latents
        self.rounds: list[BoostRound] = []
        self.steps = 0

    def judge(self, inversion: Inversion, regenerated: Tensor) -> None:
        """Notes a round, and keeps it if it is the best."""
        encoded = self.objective.encoded
        distance = ((self.image_latents - encoded).norm() / encoded.norm()).item()
        psnr = self.objective.score(regenerated)
        is_best = all(psnr > earlier.psnr for earlier in self.rounds)
        self.rounds.append(BoostRound(psnr, distance, self.steps, inversion.evaluations))
        self.inversion, self.regenerated = inversion, regenerated
        if len(self.rounds) == 1:
            self.best = Boost(self.image_latents, inversion, regenerated, inversion, self.rounds)
        elif is_best:
            self.best = replace(
                self.best, image_latents=self.image_latents, inversion=inversion, regenerated=regenerated
            )

    def goes_on(self, budget: BoostBudget, begun: float) -> bool:
        """Whether there is another round."""
        return (
            len(self.rounds) <= budget.rounds
            and self.rounds[-1].psnr < budget.target_psnr
            and time.monotonic() - begun < budget.seconds
        )

    def descend(self, budget: BoostBudget, begun: float, on_step: OnDecoderStep | None) -> None:
        """Moves the image latents by what lowers the objective from what was regenerated."""

        def within_budget(step: int) -> bool:
            if on_step:
                on_step(self.number, min(step, budget.decoder_steps), budget.decoder_steps)
            return step < budget.decoder_steps and time.monotonic() - begun < budget.seconds

        lower, self.steps = descend(
            self.objective, self.regenerated, _while_gaining(self.objective, within_budget)
        )
        self.image_latents = self.image_latents + lower - self.regenerated


def _while_gaining(objective: Objective, within_budget: Callable[[int], bool]) -> Proceed:
    """Computes the seed norm after every second block of decoder steps. Ends the descent where the last block
    gained little and the norm is as expected.
    """
    values: list[float] = []

    def proceed(step: int, value: float, latents: Tensor) -> bool:
        values.append(value)
        if not within_budget(step):
            return False
        if len(values) % 2:
            return True
        settled = value > SMALL_GAIN * values[-2]
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
