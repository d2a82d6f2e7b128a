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

        Samples of which a step fails under guidance are inverted at w = 1, and from there at w. Of the two
        inversions the one that regenerates the image latents better is kept; its records count the
        evaluations of all attempts, and those of the comparison. With a budget of `mean_evaluations` there is
        no second attempt.

        Args:
            warm: for each sample, an inversion of image latents close to its own, or None.
        """
        inversions = self._solve(image_latents, warm)
        failed = [sample for sample, one in enumerate(inversions) if one.solved < len(one.records)]
        if failed and self.denoiser.weight != 1 and not math.isfinite(self.effort.mean_evaluations):
            cold = [inversions[sample] for sample in failed]
            for sample, best in zip(failed, self._from_unguided(image_latents[failed], cold), strict=True):
                inversions[sample] = best
        return inversions

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

    def _from_unguided(self, image_latents: Tensor, cold: Sequence[Inversion]) -> list[Inversion]:
        """For each sample the better of its inversion and a second one, which starts from that without
        guidance.
        """
        unguided = replace(self, denoiser=self.denoiser.unguided())._solve(image_latents)
        again = self._solve(image_latents, unguided)
        errors = [self._errors(attempt, image_latents) for attempt in (cold, again)]
        chosen = []
        for k, attempts in enumerate(zip(cold, unguided, again, strict=True)):
            best = again[k] if errors[1][k] < errors[0][k] else cold[k]
            steps = zip(best.records, *(one.records for one in attempts), strict=True)
            records = [
                replace(record, evaluations=2 + sum(one.evaluations for one in same))
                for record, *same in steps
            ]
            chosen.append(replace(best, records=records))
        return chosen

    def _errors(self, inversions: Sequence[Inversion], image_latents: Tensor) -> list[float]:
        """‖generate(z_T) - z_0‖ of each sample, infinite where it isn't finite."""
        regenerated = self.generate(torch.cat([one.latents for one in inversions]), "comparing")
        errors = (regenerated - image_latents).flatten(1).norm(dim=1).tolist()
        return [error if math.isfinite(error) else math.inf for error in errors]

    def _on_step(self, stage: str) -> OnStep | None:
        return partial(self.on_progress, stage) if self.on_progress else None


@dataclass(frozen=True)
class DDIMInverter(Sampler):
    """A sampler that is inverted by plain DDIM inversion, for comparisons. Its inversions hold no records."""

    def invert(self, image_latents: Tensor, warm: Sequence[Inversion | None] = ()) -> list[Inversion]:
        """The seed noise z_T of image latents, by plain DDIM inversion."""
        return [Inversion(z_T, [], []) for z_T in self.ddim_invert(image_latents, "inverting").split(1)]
