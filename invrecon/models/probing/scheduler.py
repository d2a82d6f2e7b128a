"""A scheduler that only watches: it sits in the pipeline's place for one, and keeps what the pipeline gives
to `step`."""

import copy
import inspect
from functools import lru_cache, wraps
from typing import Any

from diffusers.schedulers.scheduling_utils import SchedulerOutput
from torch import Tensor

from invrecon.errors import ModelError


class Watch:
    """What a probe saw during one call of the pipeline.

    Attributes:
        predictions: of each visited step, as `step` was given them: the guided predictions.
        samples: the latents that came with them.
        options: what else `step` was given (eta, generator).
        start_scale: `init_noise_sigma`, where the pipeline asked for it: the factor of the latents that it
            starts from.
        index: of the step that is visited next, for `scale_model_input`.
        answers: latents that `step` returns, one for each visit; those it was given, where left out.
    """

    def __init__(self, indices: list[int], answers: list[Tensor]) -> None:
        self.predictions: list[Tensor] = []
        self.samples: list[Tensor] = []
        self.options: dict[str, Any] = {}
        self.start_scale = 1.0
        self.indices = indices
        self.answers = answers

    @property
    def index(self) -> int:
        return self.indices[min(len(self.samples), len(self.indices) - 1)]


def probe(scheduler: Any) -> Any:
    """A copy of a scheduler whose `step` keeps what it is given and changes nothing. Its grid is the
    scheduler's own.

    `watch` is what it notes to; a pipeline starts from unscaled latents, since `init_noise_sigma` is 1.
    """
    kind: Any = type(scheduler)
    copied = copy.deepcopy(scheduler)
    copied.__class__ = _probe_class(kind)
    return copied


def released(copied: Any) -> Any:
    """A fresh copy of a probe that steps as the scheduler does, on the grid that the pipeline set, on the
    CPU."""
    watch, copied.watch = copied.watch, None
    scheduler = copy.deepcopy(copied)
    copied.watch = watch
    scheduler.__class__ = type(copied).__bases__[0]
    for name, value in vars(scheduler).items():
        if isinstance(value, Tensor):
            vars(scheduler)[name] = value.cpu()
    if hasattr(scheduler, "_step_index"):
        scheduler._step_index = None
    return scheduler


@lru_cache
def _probe_class(base: Any) -> Any:
    signature = inspect.signature(base.step)

    @wraps(base.step)  # pipelines look at its signature
    def step(self: Any, *args: Any, **options: Any) -> Any:
        given = dict(signature.bind(self, *args, **options).arguments)
        given.pop(next(iter(given)))
        watch, sample = self.watch, given.pop("sample")
        answer = watch.answers[len(watch.samples)] if watch.answers else sample
        watch.predictions.append(given.pop("model_output"))
        watch.samples.append(sample)
        given.pop("timestep")
        plain = not given.pop("return_dict", True)
        watch.options = given
        return (answer, answer) if plain else SchedulerOutput(prev_sample=answer)

    @wraps(base.set_timesteps)
    def set_timesteps(self: Any, *args: Any, **options: Any) -> Any:
        try:
            return base.set_timesteps(self, *args, **options)
        except Exception as error:  # a configuration from outside makes a scheduler fail in all ways
            told = str(error) or type(error).__name__
            raise ModelError(
                f"the scheduler can't take these steps: {told}: take another number of them, or set "
                "scheduler_config.json right"
            ) from error

    methods: dict[str, Any] = {"step": step, "set_timesteps": set_timesteps}
    if hasattr(base, "scale_model_input"):

        @wraps(base.scale_model_input)
        def scale_model_input(self: Any, sample: Tensor, *args: Any, **options: Any) -> Tensor:
            if hasattr(self, "_step_index"):
                self._step_index = self.watch.index
            return base.scale_model_input(self, sample, *args, **options)

        methods["scale_model_input"] = scale_model_input
    methods["init_noise_sigma"] = property(_start_scale, _set_start_scale)
    return type(base.__name__, (base,), methods)


def _start_scale(self: Any) -> float:
    own = getattr(type(self).__bases__[0], "init_noise_sigma", None)
    scale = own.__get__(self) if isinstance(own, property) else vars(self).get("init_noise_sigma")
    if scale is None:
        raise AttributeError("init_noise_sigma")
    if getattr(self, "watch", None):
        self.watch.start_scale = float(scale)
    return 1.0


def _set_start_scale(self: Any, scale: float) -> None:
    vars(self)["init_noise_sigma"] = scale
