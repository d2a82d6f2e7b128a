"""The sampler's grid and coefficients, read off diffusers' own scheduler."""

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from invrecon.core.schedule import MultistepMemory, Schedule
from invrecon.errors import ModelError


def schedule_of(scheduler: Any, **options: Any) -> Schedule:
    """The steps that a scheduler takes, coefficients included, found by asking its own `step`.

    A step is linear in the latents and the network's output, of this step and, in a sampler with a memory, of
    the one before:

        x_{k+1} = A_k x_k + B_k u_k + C_k (P_{k-1} x_{k-1} + Q_{k-1} u_{k-1})

    so that four numbers, sent through the whole walk side by side, tell all of them: one is x at even steps
    and else 0, one u at even steps, the other two are x and u at odd steps. Spacing, offset, final alpha,
    Karras' sigmas and the order of the first and last steps are thereby the scheduler's; no end point is
    computed a second time.

    Latents are noted as the network sees them, z_k = c_k x_k with c = 1 / sqrt(sigma² + 1) in sigma space,
    but for z_0, which is the seed as the stock pipeline takes it, before init_noise_sigma:
    x_0 = init_noise_sigma z_0.

    Args:
        scheduler: its `set_timesteps` was called; its walk starts at the first step.
        options: what the pipeline gives to `step` besides prediction, timestep and latents (eta, say).

    Raises:
        ModelError: the steps can't be undone.
    """
    timesteps = [t.item() for t in scheduler.timesteps]
    try:
        rows, seen = walk(scheduler, options)
    except Exception as error:  # a configuration from outside makes a scheduler fail in all ways
        raise ModelError(
            f"the scheduler can't take {len(timesteps)} steps ({error or type(error).__name__}): take "
            "another number of them, or set scheduler_config.json right"
        ) from error
    if not all(math.isfinite(value) for row in rows for value in row):
        raise ModelError(_not_finite(scheduler, timesteps))
    units = [
        float(getattr(scheduler, "init_noise_sigma", 1.0)),
        *(1 / c for c in seen[1:]),
        1.0,
    ]  # x_k = units_k z_k
    first = seen[0] * units[0]
    try:
        return Schedule(
            timesteps=timesteps,
            A=[row[0] * above / below for row, (above, below) in zip(rows, pairwise(units), strict=True)],
            B=[row[1] / below for row, below in zip(rows, units[1:], strict=True)],
            scales=[1.0 if math.isclose(first, 1.0, abs_tol=1e-6) else first, *[1.0] * (len(rows) - 1)],
            signal=[*(_signal(scheduler, t, c) for t, c in zip(timesteps[1:], seen[1:], strict=True)), 1.0],
            memory=_memory(rows) if any(row[2] or row[3] for row in rows) else None,
        )
    except (ValueError, ZeroDivisionError) as error:
        final = scheduler.config.get("prediction_type") == "sample" and rows[-1][0] == 0
        cure = "set set_alpha_to_one to false in scheduler_config.json" if final else "take more steps"
        raise ModelError(
            f"{type(scheduler).__name__} with these settings and {len(rows)} steps can't be inverted "
            f"({error}): {cure}"
        ) from error


def _not_finite(scheduler: Any, timesteps: list[float]) -> str:
    """Why the steps of a scheduler aren't finite: it begins where no signal is left, or divides by the
    distance of noise levels that are one."""
    abar = getattr(scheduler, "alphas_cumprod", torch.ones(1))
    if abar[min(round(timesteps[0]), len(abar) - 1)] > 1e-6:
        return f"the scheduler can't take {len(timesteps)} steps, which aren't finite: take fewer of them"
    zero_snr = scheduler.config.get("rescale_betas_zero_snr")
    return (
        "the scheduler's steps aren't finite: its noise schedule leaves no signal at timestep "
        f"{timesteps[0]:.0f}, where a network that predicts {scheduler.config.get('prediction_type')} "
        "says nothing of the picture: "
        f"{'use --sampler euler' if zero_snr else 'set beta_end in scheduler_config.json'}"
    )


def walk(probe: Any, options: dict[str, Any]) -> tuple[list[list[float]], list[float]]:
    """For each step [A, B, C P, C Q, P, Q], P and Q those of the step itself, and c.

    Args:
        probe: a scheduler whose `set_timesteps` was called; it is walked to its end.
        options: what `step` is given besides prediction, timestep and latents.
    """
    rows, seen = [], []
    for k, t in enumerate(probe.timesteps):
        now, before = slice(2 * (k % 2), 2 * (k % 2) + 2), slice(2 - 2 * (k % 2), 4 - 2 * (k % 2))
        latents, output = torch.zeros(2, 1, 4, 1, 1, dtype=torch.float64)
        latents[0, now.start], output[0, now.start + 1] = 1.0, 1.0
        seen.append(float(_scaled(probe, torch.ones(1, dtype=torch.float64), t)))
        step = probe.step(output, t, latents, return_dict=False, **options)[0].flatten()
        memory = getattr(probe, "model_outputs", None)
        kept = memory[-1].flatten()[now].tolist() if memory else [0.0, 0.0]
        rows.append([*step[now].tolist(), *(step[before].tolist() if k else [0.0, 0.0]), *kept])
    return rows, seen


def _scaled(probe: Any, latents: Tensor, t: Tensor) -> Tensor:
    return probe.scale_model_input(latents, t) if hasattr(probe, "scale_model_input") else latents


def _memory(rows: list[list[float]]) -> MultistepMemory:
    P, Q = [row[4] for row in rows], [row[5] for row in rows]
    weights = [
        row[2] / p if abs(p) > abs(q) else row[3] / q for row, p, q in zip(rows[1:], P, Q, strict=False)
    ]
    return MultistepMemory([0.0, *weights], P, Q)


def _signal(probe: Any, timestep: float, scale: float) -> float:
    """a / sqrt(a² + s²) at a timestep: all that `Schedule.signal` asks for."""
    flow = not hasattr(probe, "alphas_cumprod") or probe.config.get("use_flow_sigmas")
    if flow:  # a = 1 - sigma, s = sigma
        sigma = timestep / probe.config.num_train_timesteps
        signal = (1 - sigma) / math.hypot(1 - sigma, sigma)
    elif scale != 1:  # in sigma space: a = 1, s = sigma
        signal = scale
    else:
        signal = probe.alphas_cumprod[round(timestep)].item() ** 0.5
    return max(signal, 1e-3)
