"""Track A at one evaluation a step: the prediction of the step before does what an iteration would."""

from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from invrecon.core.denoiser import GuidedDenoiser
from invrecon.core.peers.fixed_point import f, iterate
from invrecon.core.peers.noise_levels import noise_levels
from invrecon.core.peers.peer import Peer, Stored, is_finite, plain_generate
from invrecon.core.schedule import Schedule
from invrecon.core.transition import transitions


def uni_inv(evaluations: int | None = None) -> Peer:
    """Uni-Inv (arXiv:2504.13109), a prediction and a correction:

        z_1 = (z_s - B e) / A,      e <- eps(z_1, t),      z_t = (z_s - B e) / A = f(z_1)

    where e is carried from step to step. In the terms of `core.lbo` that is an extrapolation of order 0 and
    one Picard iteration. One evaluation a step, and one more at the start, e = eps(z_0, t_1). With a budget
    of n > 1: n iterations z <- f(z) a step, in the first one less for its start, and e is eps at the last z
    that f was evaluated at.
    """

    budget = evaluations or 1

    @torch.no_grad()
    def invert(guided: GuidedDenoiser, schedule: Schedule, image_latents: Tensor) -> Stored:
        up = list(reversed(transitions(guided, schedule)))
        latents, noise, times = image_latents, guided(image_latents, up[0].timestep), max(1, budget - 1)
        for transition in up:
            target, start = latents, transition.up(latents, noise)
            start = start if is_finite(start) else target
            latents, times = iterate(partial(f, transition, target), start, times), budget
            noise = transition.implied_noise(target, latents)
        return Stored(latents, {})

    note = (
        "The image has no timestep in DDIM: the first prediction is asked at t_1, where the released code "
        "asks at timestep 0. The publication makes one iteration; those that a budget adds are ours."
    )
    return Peer("Uni-Inv", "A", invert, plain_generate, note)


def ife(evaluations: int | None = None) -> Peer:
    """Iteration-free fixed-point estimator (arXiv:2512.08547). With xhat(z, t) = (z - s_t eps(z, t)) / a_t
    and its error E_t = z_0 - xhat(z_t, t), the fixed point of a step is

        z_t = (s_t / s_s) (z_s - a_s (z_0 - E_t)) + a_t (z_0 - E_t)

    E_t is not known at z_s, and the error of the step before, E_s, stands for it. Always one evaluation a
    step, eps(z_s, s). The first step is DDIM inversion, eps(z_0, t_1): the image has no timestep s.
    """

    @torch.no_grad()
    def invert(guided: GuidedDenoiser, schedule: Schedule, image_latents: Tensor) -> Stored:
        first = transitions(guided, schedule)[-1]
        latents = f(first, image_latents, image_latents)
        levels = noise_levels(schedule)[-2::-1]  # at t_1 to t_T
        for timestep, ((a_s, s_s), (a_t, s_t)) in zip(
            schedule.timesteps[:0:-1], pairwise(levels), strict=True
        ):
            error = image_latents - (latents - s_s * guided(latents, timestep)) / a_s
            data = image_latents - error
            following = s_t / s_s * (latents - a_s * data) + a_t * data
            if not is_finite(following):
                break
            latents = following
        return Stored(latents if is_finite(latents) else image_latents, {})

    note = (
        "Our reading of the abstract. As we read it z_0 cancels, which leaves DDIM inversion whose network "
        "is told the timestep that z_s has, not the one it is going to."
    )
    return Peer("IFE", "A", invert, plain_generate, note)
