"""Calls of a pipeline that visit only the steps that are asked for."""

import builtins
import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import wraps
from types import FunctionType
from typing import Any

import torch
from diffusers.models.autoencoders.vae import DecoderOutput
from torch import Tensor
from torch.overrides import TorchFunctionMode

from invrecon.errors import ModelError, UsageError
from invrecon.models.probing.conventions import parameters
from invrecon.models.probing.memo import Kept, memoised
from invrecon.models.probing.scheduler import Watch, probe
from invrecon.models.quiet import quiet

ENCODES = ("prompt", "encode", "ip_adapter", "prepare_image", "prepare_control_image")
"""Parts of the names of methods that depend on their arguments only, and are called anew in each call of the
pipeline."""


@dataclass(frozen=True)
class Visit:
    """What one call of the pipeline showed.

    Args:
        predictions: of each visited step, the guided prediction, (B, ...).
        samples: the loop's latents at each visited step, (B, ...).
        decoded: what reached the autoencoder's decoder, where the call went that far.
        start_scale: by which the pipeline multiplied `latents=`, beyond what is in `samples`.
        options: what else the scheduler's `step` was given.
        drawn: shapes of random tensors that were drawn.
    """

    predictions: list[Tensor]
    samples: list[Tensor]
    decoded: Tensor | None
    start_scale: float
    options: dict[str, Any]
    drawn: list[torch.Size]


class Runner:
    """A copy of a pipeline that shares all its parts, but has a probe for its scheduler; the user's is never
    touched.

    Its `__call__` is the pipeline's own function, with an `enumerate` of ours: the loop over timesteps then
    meets only the steps that are asked for, each with its true index, on the full grid.

    Args:
        pipeline: any pipeline of diffusers with a scheduler and an autoencoder.
        call: the arguments that its user calls it with.
        scheduler: in place of the pipeline's own.
        encoded: results of the pipeline's encoders by their method, which its runners share.
    """

    def __init__(
        self,
        pipeline: Any,
        call: Mapping[str, Any],
        scheduler: Any = None,
        encoded: dict[str, Kept] | None = None,
    ) -> None:
        encoded = {} if encoded is None else encoded
        self.call = dict(call)
        self.probe = probe(scheduler or pipeline.scheduler)
        kind = type(pipeline)
        fixed = {
            "_execution_device": pipeline._execution_device
        }  # else sought in all modules, again and again
        self.pipeline = copy.copy(pipeline)
        self.pipeline.__class__ = type(kind.__name__, (kind,), fixed)
        self.decoded: Tensor | None = None
        self._visits: list[tuple[int, float | None]] = []
        vars(self.pipeline).update(_progress_bar_config={"disable": True})
        vars(self.pipeline).update(_all_hooks=[])  # else all parts leave the device at the end of each call
        own = {
            "scheduler": self.probe,
            "vae": _watched_autoencoder(pipeline.vae, self._decode),
            "safety_checker": None,
            "watermark": None,
        }
        vars(self.pipeline).update({name: part for name, part in own.items() if hasattr(pipeline, name)})
        for name in _methods(kind):
            if any(part in name for part in ENCODES) and "check" not in name:
                method = getattr(self.pipeline, name)
                method = _told(method) if "prompt" in name else method
                vars(self.pipeline)[name] = memoised(method, encoded.setdefault(name, {}))
        function = inspect.unwrap(kind.__call__)  # without no_grad
        names = function.__globals__ | {"enumerate": self._enumerate}
        self._call = FunctionType(
            function.__code__, names, function.__name__, function.__defaults__, function.__closure__
        )
        self._call.__kwdefaults__ = function.__kwdefaults__

    def visit(
        self,
        steps: Sequence[int | tuple[int, float]],
        *,
        answers: Sequence[Tensor] = (),
        to_decoder: bool = False,
        **changes: Any,
    ) -> Visit:
        """One call of the pipeline, on `steps` alone.

        Args:
            steps: indices into the grid, in rising order; or an index and the timestep that the network is
                told there.
            answers: what `step` returns at each; the latents that it is given, where left out.
            to_decoder: whether the call goes on to the decoder.
            changes: arguments in place of the user's.

        Raises:
            ModelError: the pipeline doesn't take these arguments, or its loop can't be entered at one step.
        """
        self._visits = [(step, None) if isinstance(step, int) else step for step in steps]
        self.decoded = None
        watch = self.probe.watch = Watch([step for step, _ in self._visits], list(answers))
        given = {name: fresh(value) for name, value in (self.call | changes).items()}
        draws = _Draws()
        given |= {"output_type": "pt" if to_decoder else "latent", "return_dict": False}
        try:
            with quiet(), nullcontext() if "latents" in given else draws:
                self._call(self.pipeline, **given)
        except Exception as error:
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            reason = f"torch can't compile the network here ({first_line(error):.200})"
            raise ModelError(f"{reason}: leave out --compile") from error
        if len(watch.predictions) != len(steps):
            raise ModelError(
                f"{type(self.pipeline).__name__} doesn't loop over its scheduler's timesteps by enumerate, "
                "so that its steps can't be asked one by one"
            )
        return Visit(
            watch.predictions, watch.samples, self.decoded, watch.start_scale, watch.options, draws.shapes
        )

    @torch.no_grad()
    def look(self, latents: Tensor) -> Visit:
        """A visit of the first step."""
        return self.visit([0], latents=latents)

    def _enumerate(self, iterable: Iterable[Any], start: int = 0) -> Iterator[tuple[int, Any]]:
        grid = self.probe.timesteps
        inner: Any = getattr(iterable, "iterable", iterable)  # of a progress bar
        same = inner is grid or (
            isinstance(inner, Tensor) and inner.shape == grid.shape and torch.equal(inner.to(grid), grid)
        )
        if not same:
            return builtins.enumerate(iterable, start)
        return iter([(k, inner[k] if t is None else inner.new_tensor(t)) for k, t in self._visits])

    def _decode(self, latents: Tensor, *_args: Any, **_options: Any) -> DecoderOutput:
        self.decoded = latents
        return DecoderOutput(sample=latents.new_zeros(len(latents), 3, *latents.shape[2:]))


class _Draws(TorchFunctionMode):
    """Notes the shapes of random tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[torch.Size] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if function is torch.randn:
            self.shapes.append(result.shape)
        return result


def _watched_autoencoder(vae: Any, decode: Callable[..., Any]) -> Any:
    """A copy that shares its weights, encodes once what it is given twice, and hands to `decode` what would
    be decoded, in float32."""
    copied, dtype = copy.copy(vae), vae.dtype
    copied.__class__ = type(type(vae).__name__, (type(vae),), {"dtype": torch.float32})
    encode = memoised(vae.encode)
    vars(copied)["encode"] = lambda pixels, *args, **options: encode(pixels.to(dtype), *args, **options)
    vars(copied)["decode"] = decode
    return copied


def first_line(error: Exception) -> str:
    """What an error says, on one line."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _told(encode: Callable[..., Any]) -> Callable[..., Any]:
    """Turns what text encoders raise where their configuration is wrong into a ModelError."""

    @wraps(encode)
    def call(*args: Any, **options: Any) -> Any:
        try:
            return encode(*args, **options)
        except (ValueError, IndexError, TypeError, ArithmeticError) as error:
            cure = "set their config.json right, or fetch them again"
            raise ModelError(f"its text encoders can't run ({first_line(error)}): {cure}") from error

    return call


def _methods(kind: type) -> list[str]:
    return [name for name in dir(kind) if isinstance(inspect.getattr_static(kind, name), FunctionType)]


def fresh(value: Any) -> Any:
    """Generators start over at each call, and a list that one call wrote to is whole in the next (Z-Image
    writes its chat template into a list of prompts)."""
    if isinstance(value, torch.Generator):
        return value.clone_state()
    if isinstance(value, list):
        return [fresh(one) for one in value]
    return value


def check_call(pipeline: Any, call: Mapping[str, Any]) -> None:
    """Raises UsageError or ModelError where a pipeline isn't one that can be inverted, or can't be called
    so."""
    kind, there = type(pipeline).__name__, parameters(pipeline)
    if hasattr(pipeline, "blocks"):
        raise ModelError(
            f"{kind} can't be inverted: the loop of a modular pipeline can't be entered at one step"
        )
    for part in ("scheduler", "vae"):
        if getattr(pipeline, part, None) is None:
            raise ModelError(f"{kind} can't be inverted: it has no {part}")
    if "latents" not in there:
        raise ModelError(f"{kind} can't be inverted: its call takes no latents=")
    if strange := sorted(set(call) - set(there)):
        raise UsageError(f"{kind} takes no argument {strange[0]}: leave it out")
    for name in ("latents", "output_type", "return_dict"):
        if name in call:
            raise UsageError(f"{name} is set by invrecon: leave it out")
    for name in ("callback_on_step_end", "callback"):
        if call.get(name) is not None:
            raise UsageError(
                f"{name} may change latents between steps, which can't be inverted: leave it out"
            )
