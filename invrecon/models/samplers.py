"""Samplers by name: deterministic schedulers of diffusers, under the noise schedule of a checkpoint."""

import inspect
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    SchedulerMixin,
)

from invrecon.errors import ModelError
from invrecon.models.quiet import quiet

SCHEDULERS: dict[str, Any] = {
    "ddim": DDIMScheduler,
    "euler": EulerDiscreteScheduler,
    "dpm++": DPMSolverMultistepScheduler,
}

KINDS = {kind.__name__: name for name, kind in SCHEDULERS.items()} | {
    "FlowMatchEulerDiscreteScheduler": "euler"
}
"""Names of samplers, by the class that each is."""

_AUTO = {  # what a checkpoint's own scheduler stands for
    "DDIMScheduler": "ddim",
    "PNDMScheduler": "ddim",
    "EulerDiscreteScheduler": "euler",
    "DPMSolverMultistepScheduler": "dpm++",
    "FlowMatchEulerDiscreteScheduler": "euler",
}
FLOW = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "FlowMatchLCMScheduler")
"""Those of one noise schedule, which `shift` tells."""
NOISE_SCHEDULE = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
    "prediction_type",
)
_NOISY = {  # draw noise at every step; the one to use instead
    "DDPMScheduler": "ddim",
    "DDPMParallelScheduler": "ddim",
    "LCMScheduler": "ddim",
    "TCDScheduler": "ddim",
    "FlowMatchLCMScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler",
    "KDPM2AncestralDiscreteScheduler": "euler",
    "DPMSolverSDEScheduler": "dpm++",
}
_LOSSY = {"ddim": ("clip_sample", "thresholding"), "euler": (), "dpm++": ("thresholding",)}


def pick_sampler(name: str, scheduler: SchedulerMixin) -> str:
    """The sampler's name; for "auto" that which the checkpoint's own scheduler stands for, or what takes the
    place of one that draws noise.

    Raises:
        ModelError: the checkpoint's scheduler can't be inverted; the text names it and one to use instead.
    """
    kind = type(scheduler).__name__
    if name != "auto":
        return name
    if kind in _AUTO | _NOISY:
        return (_AUTO | _NOISY)[kind]
    raise ModelError(
        f"the checkpoint's {kind} is not among the samplers that can be inverted: {_instead(scheduler)}"
    )


def _instead(scheduler: SchedulerMixin) -> str:
    """What to use in place of a scheduler: the first sampler that can be made of it, or why the first can't
    be.
    """
    errors = []
    for name in ("dpm++", "ddim", "euler"):
        try:
            make_scheduler(name, scheduler)
        except ModelError as error:
            errors.append(str(error))
        else:
            return f"use --sampler {name}"
    return errors[0]


def replacement(name: str, scheduler: SchedulerMixin) -> str:
    """What to tell where "auto" takes another sampler than the checkpoint's own scheduler, which draws
    noise; "" else."""
    kind = type(scheduler).__name__
    if name != "auto" or kind not in _NOISY:
        return ""
    return f"the checkpoint's {kind} draws noise at every step; {_NOISY[kind]} takes its place"


def make_scheduler(sampler: str, scheduler: SchedulerMixin) -> SchedulerMixin:
    """A fresh scheduler for a sampler, with the noise schedule, prediction type and spacing of a checkpoint's
    own.

    Args:
        sampler: "ddim", "euler" or "dpm++"; for flow matching "euler" alone.
        scheduler: the checkpoint's own. What one that knows no clipping (PNDM, say) leaves open is not
            switched on, and one that was distilled to few steps (LCM) is sampled at trailing timesteps, the
            last of which is pure noise.

    Raises:
        ModelError: its configuration loses information or draws noise, and so can't be inverted; or the
            sampler can't have its noise schedule.
    """
    if type(scheduler).__name__ in FLOW:
        return _flow(sampler, scheduler)
    changes: dict[str, Any] = (
        {"timestep_spacing": "trailing"} if type(scheduler).__name__ == "LCMScheduler" else {}
    )
    clip_sample = scheduler.config.get("clip_sample", False)
    made = converted(SCHEDULERS[sampler], scheduler, clip_sample=clip_sample, **changes)
    for option in _LOSSY[sampler]:
        if made.config[option]:
            raise ModelError(
                f"the scheduler has {option} on, which loses information: set it to false in "
                "scheduler_config.json"
            )
    if sampler == "dpm++":
        _check_solver(made.config)
    if made.config.prediction_type not in ("epsilon", "v_prediction", "sample"):
        raise ModelError(
            f"the scheduler's prediction_type {made.config.prediction_type!r} can't be inverted: "
            "name another checkpoint with --model"
        )
    if made.config.prediction_type == "sample" and sampler != "ddim":
        raise ModelError(
            f"the network predicts the sample, and {sampler} would end in a step that can't be undone: use "
            "--sampler ddim"
        )
    return made


def converted(kind: Any, scheduler: SchedulerMixin, **changes: Any) -> SchedulerMixin:
    """A scheduler of another class with the configuration of a checkpoint's own, and some changes.

    diffusers' `from_config` puts the defaults of `kind` in the place of values that are defaults of the other
    class. Those of the noise schedule belong to the weights, and are handed over.

    Raises:
        ModelError: `kind` can't have the noise schedule of `scheduler`.
    """
    config, known = scheduler.config, inspect.signature(kind.__init__).parameters
    if config.get("timestep_type") == "continuous" and "timestep_type" not in known:
        raise ModelError(
            f"{kind.__name__} can't tell the network noise levels as the checkpoint's "
            f"{type(scheduler).__name__} does (timestep_type continuous): use --sampler auto"
        )
    kept = {name: config[name] for name in NOISE_SCHEDULE if name in config and name in known}
    with quiet():
        made = kind.from_config(
            config, **kept | {key: value for key, value in changes.items() if key in known}
        )
    own = getattr(scheduler, "alphas_cumprod", None)
    changed = not changes.keys().isdisjoint(NOISE_SCHEDULE)
    if own is None or not (changed or torch.allclose(own.double(), made.alphas_cumprod.double(), atol=1e-6)):
        raise ModelError(
            f"{kind.__name__} can't have the noise schedule of the checkpoint's {type(scheduler).__name__}: "
            "name another checkpoint with --model"
        )
    return made


def _flow(sampler: str, scheduler: SchedulerMixin) -> SchedulerMixin:
    if sampler != "euler":
        raise ModelError(f"{sampler} is not for flow matching: use --sampler euler")
    made = FlowMatchEulerDiscreteScheduler.from_config(scheduler.config)
    for option in ("stochastic_sampling", "invert_sigmas"):
        if made.config.get(option):
            raise ModelError(
                f"the scheduler has {option} on and can't be inverted: set it to false in "
                "scheduler_config.json"
            )
    return made


def _check_solver(config: Any) -> None:
    kind, order = config["algorithm_type"], config["solver_order"]
    if kind.startswith("sde"):
        raise ModelError(
            f"the scheduler's algorithm_type {kind} adds noise at every step and can't be inverted: set it "
            "to dpmsolver++"
        )
    if order > 2:
        raise ModelError(
            f"the scheduler's solver_order {order} can't be inverted: set it to 2 in scheduler_config.json"
        )
