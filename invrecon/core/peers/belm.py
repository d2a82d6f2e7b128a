"""O-BELM: a linear relation of three neighbours on the trajectory, solved for either end."""

import torch
from torch import Tensor

from invrecon.core.denoiser import GuidedDenoiser
from invrecon.core.peers.noise_levels import noise_levels
from invrecon.core.peers.peer import Peer, Stored
from invrecon.core.schedule import Schedule


def o_belm(evaluations: int | None = None) -> Peer:
    """Bidirectional explicit linear multi-step sampler, the optimal one (arXiv:2410.07273).

    In u = z / a and v = s / a the flow is du/dv = eps. With h = v_i - v_{i-1}, k = v_{i+1} - v_i, Taylor's
    series about v_i,

        u_{i-1} = u_i - h eps_i + h²/2 u'' - ...,      u_{i+1} = u_i + k eps_i + k²/2 u'' + ...,

    leave, once u'' is eliminated, a relation whose error is of third order:

        u_{i+1} = r u_{i-1} + (1 - r) u_i + (k + r h) eps_i,      r = k² / h²

    Only eps at the middle appears, so that it is explicit upwards and downwards. The last two latents are
    kept. Always one evaluation a step (upwards the first is DDIM inversion).
    """
    return Peer("O-BELM", "B", _invert, _generate)


@torch.no_grad()
def _invert(guided: GuidedDenoiser, schedule: Schedule, image_latents: Tensor) -> Stored:
    a, v, timesteps = _grid(schedule)
    below = image_latents / a[0]
    current = below + (v[1] - v[0]) * guided(image_latents, timesteps[1])
    for i in range(1, len(schedule)):
        r, gain = _coefficients(v, i)
        below, current = current, r * below + (1 - r) * current + gain * guided(a[i] * current, timesteps[i])
    return Stored(a[-1] * current, {"previous": a[-2] * below})


@torch.no_grad()
def _generate(guided: GuidedDenoiser, schedule: Schedule, stored: Stored) -> Tensor:
    a, v, timesteps = _grid(schedule)
    above, current = stored.latents / a[-1], stored.extras["previous"] / a[-2]
    for i in reversed(range(1, len(schedule))):
        r, gain = _coefficients(v, i)
        above, current = (
            current,
            (above - (1 - r) * current - gain * guided(a[i] * current, timesteps[i])) / r,
        )
    return a[0] * current


def _grid(schedule: Schedule) -> tuple[list[float], list[float], list[float]]:
    """a, v and the timestep at levels 0 (image) to T; the image has no timestep of its own, and 0 stands
    there.
    """
    levels = noise_levels(schedule)[::-1]
    return [a for a, _ in levels], [s / a for a, s in levels], [0, *reversed(schedule.timesteps)]


def _coefficients(v: list[float], i: int) -> tuple[float, float]:
    """r and k + r h."""
    h, k = v[i] - v[i - 1], v[i + 1] - v[i]
    r = (k / h) ** 2
    return r, k + r * h
