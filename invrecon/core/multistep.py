"""Inverting a sampler with a memory: a step depends on its noisier neighbour, which the way up meets last.

The equations of all steps are coupled,  z_{k+1} = A_k z_k + B_k e_k + C_k x_{k-1},  where x_{k-1} = P z_{k-1}
+ Q e_{k-1} is taken at a z_{k-1} that isn't known yet. With the one-step form of the schedule
(`Schedule.one_step`: x_k in place of x_{k-1}) a step reads

    z_{k+1} = (A_k + C_k P_k) z_k + (B_k + C_k Q_k) e_k + o_k,      o_k = C_k (x_{k-1} - x_k)

and o is small. So o is the unknown: an inversion of the one-step form with o held fixed gives a trajectory
and thereby a new o, and where o stands still the trajectory is the sampler's own, all steps at once. The
derivation is ours.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from invrecon.core import lbo
from invrecon.core.denoiser import Denoiser
from invrecon.core.lbo import Inversion, Sweep
from invrecon.core.sampling import OnStep
from invrecon.core.schedule import MultistepMemory, Schedule
from invrecon.settings import Effort
from invrecon.solve import Anderson, Criterion, Result, solve

MAX_SWEEPS = 15


@torch.no_grad()
def invert(
    denoiser: Denoiser,
    schedule: Schedule,
    image_latents: Tensor,
    effort: Effort = Effort(),
    *,
    warm: Sequence[Inversion | None] = (),
    precision: float = 0.0,
    on_step: OnStep | None = None,
) -> list[Inversion]:
    """`lbo.invert` for schedules with a memory, and for those without.

    Sweeps until the offsets stand still to rtol / 2 in the regenerated latents; the other half of rtol is the
    steps'. A budget of `mean_evaluations` is shared among as many sweeps as it has whole evaluations a step.
    """
    if schedule.memory is None:
        return lbo.invert(
            denoiser, schedule, image_latents, effort, warm=warm, precision=precision, on_step=on_step
        )
    sweeps = _Sweeps(denoiser, schedule, schedule.memory, image_latents, effort, warm, precision, on_step)
    start = sweeps.start()
    rtol = 0.0 if math.isfinite(effort.mean_evaluations) else effort.rtol / 2 / len(schedule) ** 0.5
    criteria = [
        Criterion(rtol, sweeps.most, size or 1.0, floor=precision)
        for size in image_latents.flatten(1).norm(dim=1).tolist()
    ]
    results = solve(sweeps, start, Anderson(5), criteria).results
    return [sweeps.inversion(sample, result) for sample, result in enumerate(results)]


class _Sweeps:
    """o -> o of the trajectory that o leads to, for each sample, (n, T, C, h, w), in units of what the image
    makes of it.

    Keeps each sample's inversion with the offsets that moved least.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        schedule: Schedule,
        memory: MultistepMemory,
        image_latents: Tensor,
        effort: Effort,
        warm: Sequence[Inversion | None],
        precision: float,
        on_step: OnStep | None,
    ) -> None:
        self.denoiser, self.schedule, self.memory, self.on_step = denoiser, schedule, memory, on_step
        self.one_step = schedule.one_step()
        self.image_latents, self.precision = image_latents, precision
        self.effort = replace(effort, rtol=effort.rtol / 2)
        self.units = image_latents.new_tensor(schedule.signal).view(1, -1, *(1,) * (image_latents.ndim - 1))
        self.latest: list[Inversion | None] = list(warm) or [None] * len(image_latents)
        self.best = list(self.latest)
        self.lowest = [math.inf] * len(image_latents)
        self.most = int(min(MAX_SWEEPS, max(1.0, effort.mean_evaluations)))
        self.done = 0
        self.spent = [[0] * len(schedule) for _ in image_latents]

    def start(self) -> Tensor:
        """The offsets of the warm inversions, zero for samples without one."""
        zero = torch.zeros_like(self.units) * self.image_latents[:1, None]
        known = [
            offsets_along(self.schedule, self.memory, [warm]) / self.units if warm else zero
            for warm in self.latest
        ]
        return torch.cat(known)

    def __call__(self, scaled: Tensor, rows: Tensor) -> Tensor:
        offsets, samples = scaled * self.units, rows.tolist()
        allowed, sweeps_left = self.effort.mean_evaluations * len(self.schedule), self.most - self.done
        left = [(allowed - sum(self.spent[sample])) / sweeps_left for sample in samples]
        self.done += 1
        inversions = lbo.invert(
            self.denoiser,
            self.one_step,
            self.image_latents[samples],
            self.effort,
            warm=[self.latest[sample] for sample in samples],
            precision=self.precision,
            sweep=Sweep(offsets.unbind(1), left),
            on_step=self.on_step,
        )
        following = offsets_along(self.one_step, self.memory, inversions, offsets) / self.units
        misses = (following - scaled).flatten(1).norm(dim=1).tolist()
        for sample, inversion, miss in zip(samples, inversions, misses, strict=True):
            self._note(sample, inversion, miss)
        return following

    def _note(self, sample: int, inversion: Inversion, miss: float) -> None:
        self.latest[sample] = inversion
        self.spent[sample] = [
            before + record.evaluations
            for before, record in zip(self.spent[sample], inversion.records, strict=True)
        ]
        if miss < self.lowest[sample]:
            self.best[sample], self.lowest[sample] = inversion, miss

    def inversion(self, sample: int, result: Result) -> Inversion:
        """The best of a sample; its records count the evaluations of all sweeps."""
        best = self.best[sample] or self.latest[sample]
        assert best  # there is one after the first sweep
        records = [
            replace(record, evaluations=count)
            for record, count in zip(best.records, self.spent[sample], strict=True)
        ]
        if not result.outcome.solved:
            records = [
                replace(record, outcome=result.outcome, residual=record.residual + result.residual)
                for record in records
            ]
        return replace(best, records=records)


def offsets_along(
    schedule: Schedule,
    memory: MultistepMemory,
    inversions: Sequence[Inversion],
    offsets: Tensor | None = None,
) -> Tensor:
    """o_k = C_k (x_{k-1} - x_k) along the trajectories of inversions, (B, T, C, h, w), from noise to image.

    The trajectories are rebuilt from the seeds and `noises`, without the network.

    Args:
        schedule: the one-step form with `offsets`, (B, T, C, h, w), or the sampler's own without.
    """
    latents = torch.cat([inversion.latents for inversion in inversions])
    along, before = [], torch.zeros_like(latents)
    for k in range(len(schedule)):
        noise = torch.cat([inversion.noises[-1 - k] for inversion in inversions])
        predicted = memory.P[k] * latents + memory.Q[k] * noise
        along.append(memory.C[k] * (before - predicted))
        added = memory.C[k] * before if offsets is None else offsets[:, k]
        latents, before = schedule.A[k] * latents + schedule.B[k] * noise + added, predicted
    return torch.stack(along, dim=1)
