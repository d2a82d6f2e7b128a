"""Samplers by name: deterministic schedulers of diffusers, under the noise schedule of a checkpoint."""

from collections.abc import Mapping
from typing import Any

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
        f"the checkpoint's {kind} is not among the samplers that can be inverted: use --sampler dpm++"
    )


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
        ModelError: its configuration loses information or draws noise, and so can't be inverted.
    """
    config: Mapping[str, Any] = scheduler.config
    if "shift" in config and "num_train_timesteps" in config and "beta_start" not in config:
        return _flow(sampler, config)
    changes: dict[str, Any] = (
        {"timestep_spacing": "trailing"} if type(scheduler).__name__ == "LCMScheduler" else {}
    )
    with quiet():
        made = SCHEDULERS[sampler].from_config(
            config, clip_sample=config.get("clip_sample", False), **changes
        )
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
            f"the scheduler's prediction_type {made.config.prediction_type!r} is not one that can be inverted"
        )
    if made.config.prediction_type == "sample" and sampler != "ddim":
        raise ModelError(
            f"the network predicts the sample, and {sampler} would end in a step that can't be undone: use "
            "--sampler ddim"
        )
    return made


def _flow(sampler: str, config: Mapping[str, Any]) -> SchedulerMixin:
    if sampler != "euler":
        raise ModelError(f"{sampler} is not for flow matching: use --sampler euler")
    made = FlowMatchEulerDiscreteScheduler.from_config(config)
    for option in ("stochastic_sampling", "invert_sigmas"):
        if made.config.get(option):
            raise ModelError(
                f"the scheduler has {option} on and can't be inverted: set it to false in "
                "scheduler_config.json"
            )
    return made


def _check_solver(config: Mapping[str, Any]) -> None:
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
