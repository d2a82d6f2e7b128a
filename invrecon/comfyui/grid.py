"""Where a seed starts, and by which sigmas it goes, in ComfyUI's variables.

For models that predict noise or velocity ComfyUI samples x = z / a, with sigma = s / a, where z = a x_0 + s n
and a² + s² = 1 are what the network sees. For flow models it samples z = (1 - sigma) x_0 + sigma n itself.
Both follow from a seed file's header alone: a step of the seed's sampler is z_s = A z_t + B e.
"""

import math
from typing import Any, NamedTuple

_TOLERANCE = 1e-4  # of a² + s², which float32 tables of alphas leave within 1e-5 of 1


class Grid(NamedTuple):
    """Sigmas from noise to picture, one more than there are steps; x_T is `factor` times the seed's latents.

    `flow` tells whether the model is a flow model.
    """

    sigmas: list[float]
    factor: float
    flow: bool


def grid_of(header: dict[str, Any]) -> Grid:
    """The grid of a seed file's header.

    Raises:
        ValueError: ComfyUI can't go the same way exactly; the text says why.
    """
    schedule = header.get("schedule")
    if schedule is None:
        raise ValueError(
            "it was made by an earlier invrecon, which didn't note its steps; invert the photo again"
        )
    if schedule["memory"] is not None or header["sampler"] not in ("ddim", "euler"):
        raise ValueError(
            "ComfyUI has no sampler that takes the steps of DPM-Solver++; invert with --sampler ddim"
        )
    if schedule["prediction"] == "flow":
        return _flow(header)
    if any(t != int(t) for t in header["timesteps"]):
        raise ValueError("ComfyUI rounds its timesteps, which aren't whole; invert with --sampler ddim")
    return _variance_preserving(header, schedule)


def _flow(header: dict[str, Any]) -> Grid:
    """A step is z_s = z_t + (sigma_s - sigma_t) v, and ends at sigma 0."""
    schedule, sigmas = header["schedule"], [0.0]
    for B in reversed(schedule["B"]):
        sigmas.append(sigmas[-1] - B)
    sigmas.reverse()
    train = header["scheduler"]["config"].get("num_train_timesteps", 1000)
    timesteps = [t / train for t in header["timesteps"]]
    if any(abs(A - 1) > 1e-6 for A in schedule["A"]) or any(
        abs(sigma - t) > 1e-3 for sigma, t in zip(sigmas, timesteps, strict=False)
    ):
        raise ValueError(
            "its steps aren't those of flow matching with timesteps of 1000 sigma, as ComfyUI has them"
        )
    return Grid(sigmas, 1.0, flow=True)


def _variance_preserving(header: dict[str, Any], schedule: dict[str, Any]) -> Grid:
    """Steps are followed upwards from the last, whose end the scheduler's configuration tells."""
    a, s = _end(header["sampler"], header["scheduler"]["config"])
    sigmas = [s / a]
    for A, B, scale in list(zip(schedule["A"], schedule["B"], schedule["scales"], strict=True))[::-1]:
        if schedule["prediction"] == "epsilon":  # A = a_s / a_t, B = s_s - A s_t
            a, s = a / A, (s - B) / A
        elif schedule["prediction"] == "v_prediction":  # A = cos(t - s), B = -sin(t - s), a = cos, s = sin
            angle = math.atan2(s, a) + math.atan2(-B, A / scale)
            a, s = math.cos(angle) / scale, math.sin(angle) / scale
        else:
            raise ValueError(f"ComfyUI has no model that predicts {schedule['prediction']!r} in these steps")
        if not a * scale > 1e-3 or abs((a * a + s * s) * scale * scale - 1) > _TOLERANCE:
            raise ValueError(
                "its noise schedule isn't one that ComfyUI can follow; invert with --sampler ddim"
            )
        sigmas.append(s / a)
    return Grid(sigmas[::-1], 1 / a, flow=False)


def _end(sampler: str, config: dict[str, Any]) -> tuple[float, float]:
    """a and s where the last step ends: 1 and 0, or those of timestep 0 where the configuration says so."""
    if sampler == "euler" and config.get("final_sigmas_type", "zero") != "zero":
        raise ValueError("its grid ends above sigma 0 by final_sigmas_type; invert with --sampler ddim")
    if sampler == "euler" or config.get("set_alpha_to_one", True):
        return 1.0, 0.0
    betas = config.get("trained_betas")
    if not betas and config.get("beta_schedule") not in ("linear", "scaled_linear"):
        raise ValueError("its noise schedule isn't one that ComfyUI has")
    first = betas[0] if betas else config["beta_start"]
    return math.sqrt(1 - first), math.sqrt(first)


def text_of(sigmas: list[float]) -> str:
    """Sigmas as the node ManualSigmas reads them: plain decimals, without exponents."""
    return ", ".join(f"{sigma:.9f}" for sigma in sigmas)


def core_scheduler(header: dict[str, Any], grid: Grid) -> str | None:
    """The scheduler of ComfyUI that has the same grid for 1000 timesteps; None where there is none."""
    steps, timesteps = len(grid.sigmas) - 1, header["timesteps"]
    if grid.flow or grid.sigmas[-1] != 0:
        return None
    if timesteps == list(range(1, 1000, max(1000 // steps, 1)))[::-1]:
        return "ddim_uniform"
    if timesteps == [999 - int(k * 1000 / steps) for k in range(steps)]:
        return "simple"
    return None
