"""A sampler: what runs from noise to image latents, and what leads back."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from invrecon.core import lbo, multistep, sampling
from invrecon.core.denoiser import GuidedDenoiser
from invrecon.core.lbo import Inversion
from invrecon.core.sampling import OnStep
from invrecon.core.schedule import Schedule
from invrecon.settings import Effort

OnProgress = Callable[[str, int, int], None]
"""Called with (stage, steps done, steps in all)."""


RETRIES = 2  # inversions of a sample after the first, where guidance makes errors grow
SHARPEST = 1e-3  # by which a retry lowers the tolerance at most


@dataclass(frozen=True)
class Sampler:
    """A denoiser on a grid of timesteps. All latents are batches, (B, C, h, w).

    Args:
        denoiser: eps(z, t), guidance included.
        schedule: the grid and its coefficients.
        effort: how exactly `invert` solves each step.
        on_progress: called after every step.
    """

    denoiser: GuidedDenoiser
    schedule: Schedule
    effort: Effort = Effort()
    on_progress: OnProgress | None = None

    def generate(self, latents: Tensor, stage: str = "regenerating") -> Tensor:
        """Image latents z_0 of seed noise z_T, by the plain sampler. T evaluations."""
        return sampling.generate(self.denoiser, self.schedule, latents, self._on_step(stage))

    def invert(self, image_latents: Tensor, warm: Sequence[Inversion | None] = ()) -> list[Inversion]:
        """The seed noise z_T of image latents, by Latent Bias Optimization (see `core.lbo`), sample by
        sample.

        Under guidance an error can grow on the way down by more than `lbo.growth` reckons with. So there
        every inversion is tried out: where  ‖generate(z_T) - z_0‖ > rtol ‖z_0‖  it is made again, `RETRIES`
        times at most (see `_improved`), and the best is kept. Its records count the evaluations of all
        attempts, and those of trying them out. With a budget of `mean_evaluations` there is one attempt.

        Args:
            warm: for each sample, an inversion of image latents close to its own, or None.
        """
        inversions = self._solve(image_latents, warm)
        if self.denoiser.weight == 1 or math.isfinite(self.effort.mean_evaluations):
            return inversions
        errors = self._errors(inversions, image_latents)
        samples = zip(image_latents.split(1), inversions, errors, strict=True)
        return [self._improved(*sample) for sample in samples]

    def _solve(self, image_latents: Tensor, warm: Sequence[Inversion | None] = ()) -> list[Inversion]:
        return (multistep.invert if self.schedule.memory else lbo.invert)(
            self.denoiser,
            self.schedule,
            image_latents,
            self.effort,
            warm=warm,
            precision=self.denoiser.rounding,
            on_step=self._on_step("inverting again" if any(warm) else "inverting"),
        )

    def ddim_invert(self, image_latents: Tensor, stage: str = "comparing: DDIM inversion") -> Tensor:
        """z_T by plain DDIM inversion, to compare with. T evaluations."""
        return sampling.ddim_inversion(self.denoiser, self.schedule, image_latents, self._on_step(stage))

    def _improved(self, image_latents: Tensor, inversion: Inversion, error: float) -> Inversion:
        """The best of an inversion of one sample and those that are made from it until one is exact enough.

        Each attempt starts from the best so far, with a tolerance that is smaller by  rtol / (2 error). Where
        a step failed, the first one starts from the inversion without guidance. One that doesn't halve the
        error is the last.

        Args:
            error: ‖generate(z_T) - z_0‖ / ‖z_0‖.
        """
        best, rtol, attempts, tried = inversion, self.effort.rtol, [inversion], 1
        while error > self.effort.rtol and tried <= RETRIES:
            start = best
            if tried == 1 and best.solved < len(best.records):
                [start] = replace(self, denoiser=self.denoiser.unguided())._solve(image_latents)
                attempts.append(start)
            rtol *= max(self.effort.rtol / error, SHARPEST) / 2
            sharper = replace(self, effort=replace(self.effort, rtol=rtol))
            [again] = sharper._solve(image_latents, [start])
            attempts, tried = [*attempts, again], tried + 1
            [new] = self._errors([again], image_latents)
            if new < error:
                best = again
            if new > error / 2:
                break
            error = new
        steps = zip(best.records, *(one.records for one in attempts), strict=True)
        records = [
            replace(record, evaluations=tried + sum(one.evaluations for one in same))
            for record, *same in steps
        ]
        return replace(best, records=records)

    def _errors(self, inversions: Sequence[Inversion], image_latents: Tensor) -> list[float]:
        """‖generate(z_T) - z_0‖ / ‖z_0‖ of each sample, infinite where it isn't finite."""
        regenerated = self.generate(torch.cat([one.latents for one in inversions]), "trying the seed")
        errors = (regenerated - image_latents).flatten(1).norm(dim=1) / image_latents.flatten(1).norm(dim=1)
        return [error if math.isfinite(error) else math.inf for error in errors.tolist()]

    def _on_step(self, stage: str) -> OnStep | None:
        return partial(self.on_progress, stage) if self.on_progress else None


@dataclass(frozen=True)
class DDIMInverter(Sampler):
    """A sampler that is inverted by plain DDIM inversion, for comparisons. Its inversions hold no records."""

    def invert(self, image_latents: Tensor, warm: Sequence[Inversion | None] = ()) -> list[Inversion]:
        """The seed noise z_T of image latents, by plain DDIM inversion."""
        return [Inversion(z_T, [], []) for z_T in self.ddim_invert(image_latents, "inverting").split(1)]
