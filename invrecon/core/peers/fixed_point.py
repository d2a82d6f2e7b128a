"""Track A without gradients: what plain iteration makes of  z = f(z),  f(z) = (z_s - B eps(z, t)) / A.

All start at z_s, and so their first f(z_s) is plain DDIM inversion. A step whose iterates stop being finite
ends with the last that was.
"""

import math
from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

from invrecon.core.peers.peer import Peer, Step, is_finite, step_by_step
from invrecon.core.transition import Transition
from invrecon.solve import Anderson

Update = Callable[[Tensor], Tensor | None]


def iterate(update: Update, latents: Tensor, times: int) -> Tensor:
    """z <- update(z), so many times or until it returns None or something not finite; the last iterate before
    that.
    """
    for _ in range(times):
        following = update(latents)
        if following is None or not is_finite(following):
            break
        latents = following
    return latents


def f(transition: Transition, target: Tensor, latents: Tensor) -> Tensor:
    """f(z), one evaluation."""
    return transition.up(target, transition.denoiser(latents, transition.timestep))


def ddim(evaluations: int | None = None) -> Peer:
    """Plain DDIM inversion (arXiv:2105.05233):  z_t = f(z_s).  Always one evaluation a step."""
    return step_by_step("DDIM", picard(1))


def fpi(evaluations: int | None = None) -> Peer:
    """Fixed-point iteration (as in arXiv:2309.04907 and arXiv:2312.12540):  z <- f(z),  5 times."""
    return step_by_step("FPI", picard(evaluations or 5))


def picard(iterations: int) -> Step:
    """z <- f(z)."""
    return lambda transition, target: iterate(
        lambda latents: f(transition, target, latents), target, iterations
    )


def aidi_e(evaluations: int | None = None) -> Peer:
    """AIDI with empirical acceleration (arXiv:2309.04907):  z_1 = f(z_0),  then  z_{i+1} = (f(z_{i-1}) +
    f(z_i)) / 2,  5 evaluations.
    """

    def step(transition: Transition, target: Tensor) -> Tensor:
        values: deque[Tensor] = deque(maxlen=2)

        def average(latents: Tensor) -> Tensor:
            values.append(f(transition, target, latents))
            return torch.stack(tuple(values)).mean(0)

        return iterate(average, target, evaluations or 5)

    return step_by_step("AIDI-E", step)


def aidi_a(evaluations: int | None = None) -> Peer:
    """AIDI with Anderson acceleration of f (arXiv:2309.04907), 5 evaluations; every step begins without a
    history.
    """

    def step(transition: Transition, target: Tensor) -> Tensor:
        anderson, rows = Anderson(window=3), torch.arange(len(target), device=target.device)
        anderson.start(target)
        return iterate(
            lambda latents: anderson.propose(latents, f(transition, target, latents), rows),
            target,
            evaluations or 5,
        )

    return step_by_step("AIDI-A", step, note="The window of 3 is taken for differences kept, undamped.")


def renoise(evaluations: int | None = None) -> Peer:
    """ReNoise (arXiv:2403.14602), without its regulariser and noise correction:  z_t = (z_s - B mean_i
    eps(z_i, t)) / A,  z_{i+1} = f(z_i).

    The mean runs over the first 5 predictions where t < 250, else over the last two of 10 (that is, after K =
    9 renoisings). With a budget: over the first 5 at most, else over the last fifth of them, rounded up.
    """
    budget = evaluations or 10

    def step(transition: Transition, target: Tensor) -> Tensor:
        total, window = (min(5, budget), 5) if transition.timestep < 250 else (budget, math.ceil(budget / 5))
        noises: deque[Tensor] = deque(maxlen=window)

        def update(latents: Tensor) -> Tensor | None:
            noise = transition.denoiser(latents, transition.timestep)
            if not is_finite(noise):
                return None
            noises.append(noise)
            return transition.up(target, noise)

        latents = iterate(update, target, total)
        averaged = transition.up(target, torch.stack(tuple(noises)).mean(0)) if noises else latents
        return averaged if is_finite(averaged) else latents

    note = (
        "Where t < 250, the prediction after the fifth, which the released code makes and drops, is left out."
    )
    return step_by_step("ReNoise", step, note)


def exact_dpm(evaluations: int | None = None) -> Peer:
    """Exact inversion by the forward step method (arXiv:2311.18387):  z <- z - ρ (Phi(z) - z_s),  from z =
    f(z_s).

    ρ is 0.5, and halved after 20 iterations without gain. As published, up to 500 iterations until ‖Phi(z) -
    z_s‖² < 1e-3 for 4 x 64 x 64 latents, and in proportion for others. With a budget: as many as that leaves
    after f(z_s), whatever the residual.
    """
    iterations, threshold = (500, 1e-3 / (4 * 64 * 64)) if evaluations is None else (evaluations - 1, 0.0)

    def step(transition: Transition, target: Tensor) -> Tensor:
        rate, lowest, idle = 0.5, math.inf, 0

        def update(latents: Tensor) -> Tensor | None:
            nonlocal rate, lowest, idle
            error = transition.down(latents) - target
            loss = error.square().mean().item()
            if loss < threshold:
                return None
            lowest, idle = (loss, 0) if loss < lowest else (lowest, idle + 1)
            if idle == 20:
                rate, idle = rate / 2, 0
            return latents - rate * error

        return iterate(update, picard(1)(transition, target), iterations)

    note = (
        "The limit of 500 iterations and the threshold, here in proportion to size, are the released code's; "
        "its warm-up of ρ is left out."
    )
    return step_by_step("ExactDPM", step, note)
