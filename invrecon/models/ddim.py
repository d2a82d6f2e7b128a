"""The DDIM grid, read off diffusers' own scheduler."""

import torch
from diffusers import DDIMScheduler

from invrecon.core.schedule import Schedule
from invrecon.errors import ModelError


def ddim_scheduler(config: dict) -> DDIMScheduler:
    """The checkpoint's noise schedule under DDIM; a scheduler that knows no clipping (PNDM, say) isn't given any.

    Raises:
        ModelError: the configuration clips or thresholds, and so can't be inverted.
    """
    scheduler = DDIMScheduler.from_config({"clip_sample": False, **config})
    for option in ("clip_sample", "thresholding"):
        if scheduler.config[option]:
            raise ModelError(f"the scheduler has {option} on, which loses information: set it to false in scheduler_config.json")
    return scheduler


def read_schedule(scheduler: DDIMScheduler, num_inference_steps: int) -> Schedule:
    """The steps that `scheduler` takes, coefficients included, found by asking its own `step`.

    A DDIM step is linear in latents and noise, so step(z=1, eps=0) is A and step(z=0, eps=1) is B, whatever
    spacing, offset and final alpha the configuration asks for; no end point is computed a second time.

    Args:
        num_inference_steps: T, at most the number of training steps.

    Raises:
        ModelError: the scheduler can't take that many steps.
    """
    probe = DDIMScheduler.from_config(scheduler.config, prediction_type="epsilon")
    try:
        probe.set_timesteps(num_inference_steps)
    except ValueError as error:
        raise ModelError(f"the scheduler can't take {num_inference_steps} steps: {error}") from error
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    timesteps = probe.timesteps.tolist()
    if len(set(timesteps)) != len(timesteps):
        raise ModelError(f"{num_inference_steps} steps visit a timestep twice: take fewer")
    return Schedule(
        timesteps=timesteps,
        A=[probe.step(zero, t, one).prev_sample.item() for t in timesteps],
        B=[probe.step(one, t, zero).prev_sample.item() for t in timesteps],
    )
