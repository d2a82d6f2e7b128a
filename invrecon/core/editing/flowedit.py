"""FlowEdit (arXiv:2412.08629): from the photo's latents straight to the edit's, without a seed."""

import torch
from torch import Tensor

from invrecon.core.denoiser import Denoiser
from invrecon.core.sampling import OnStep
from invrecon.core.schedule import Schedule
from invrecon.core.transition import transitions


@torch.no_grad()
def flowedit(
    denoisers: tuple[Denoiser, Denoiser],
    schedule: Schedule,
    image_latents: Tensor,
    strength: float,
    n_avg: int,
    generator: torch.Generator,
    *,
    mask: Tensor | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Edited image latents. From z = x on, for each of the last n_max = strength T steps, from t to s,

        x_t = (1 - sigma_t) x + sigma_t n,     n ~ N(0, 1), n_avg draws
        d   = mean over n of  v_target(x_t + (z - x), t) - v_source(x_t, t)
        z   <- z + (sigma_s - sigma_t) d

    with the velocity v = n - x_0 that the network predicts (algorithm 1, n_min = 0). Equal denoisers
    give d = 0, and the photo's latents.

    Args:
        denoisers: v_source and v_target.
        schedule: of a flow model: A is 1, and B is sigma_s - sigma_t.
        image_latents: x, (1, C, h, w).
        strength: in [0, 1].
        n_avg: draws at each step, at least 1.
        generator: of the noise, on the CPU.
        mask: (1, 1, h, w) in [0, 1]; after each step  z <- x + mask (z - x).

    Raises:
        ValueError: the schedule isn't a flow's.
    """
    check_flow(schedule)
    source, target = (transitions(denoiser, schedule) for denoiser in denoisers)
    first = len(schedule) - round(strength * len(schedule))
    latents = image_latents.clone()
    for k in range(first, len(schedule)):
        step, gap = target[k], torch.zeros_like(latents)
        for _ in range(n_avg):
            noised = noise_to(image_latents, step.time, generator)
            theirs = source[k].denoiser(noised, step.timestep)
            gap += step.denoiser(noised + (latents - image_latents), step.timestep) - theirs
        latents = latents + step.B * gap / n_avg
        if mask is not None:
            latents = image_latents + mask * (latents - image_latents)
        if on_step:
            on_step(k + 1 - first, len(schedule) - first)
    return latents


def check_flow(schedule: Schedule) -> None:
    """Raises ValueError where steps aren't those of rectified flow, from sigma <= 1 on."""
    flows = (
        schedule.memory is None and all(A == 1 for A in schedule.A) and all(c == 1 for c in schedule.scales)
    )
    if not flows or max(schedule.times) > 1 + 1e-6:
        raise ValueError("its steps aren't those of a flow")


def noise_to(image_latents: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """(1 - sigma) x + sigma n with n ~ N(0, 1)."""
    noise = torch.randn(image_latents.shape, generator=generator).to(image_latents)
    return (1 - sigma) * image_latents + sigma * noise
