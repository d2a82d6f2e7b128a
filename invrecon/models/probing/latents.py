"""The forms that latents have in one pipeline at one size, read off its calls.

argument   what `latents=` takes
loop       what the loop over timesteps and the scheduler see; packed in patches, maybe
decoder    what reaches the autoencoder's decoder; scaled and shifted, with a frame axis, maybe
image      what invrecon works on, (B, C, h, w): the loop's values at the decoder's places
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from invrecon.errors import ModelError
from invrecon.models.probing.affine import AffinePermutation, read_affine
from invrecon.models.probing.replay import replayed
from invrecon.models.probing.runner import Runner, Visit, first_line

FAULTS = (TypeError, RuntimeError, AttributeError, IndexError, KeyError, ImportError, ArithmeticError)
"""Of pipelines that meet arguments or settings that they can't take."""


@dataclass(frozen=True)
class LatentForms:
    """Maps between them, differentiable both ways.

    Args:
        start: from argument to loop; None where they are the same.
        decoding: from loop to decoder.
        like: the loop's latents, (1, ...): their dtype and device.
    """

    start: AffinePermutation | None
    decoding: AffinePermutation
    like: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, h, w) of image latents."""
        shape = tuple(self.decoding.place.shape)
        return (shape[0], *shape[2:]) if self.has_frames else shape

    @property
    def has_frames(self) -> bool:
        """Whether the autoencoder has a frame axis, of length 1."""
        return self.decoding.place.ndim == 4

    def to_loop(self, latents: Tensor) -> Tensor:
        """Image latents -> the loop's."""
        return self.decoding.unpermute(latents)

    def from_loop(self, latents: Tensor) -> Tensor:
        """The loop's -> image latents."""
        return self.decoding.permute(latents).view(len(latents), *self.shape)

    def to_argument(self, latents: Tensor) -> Tensor:
        """Image latents -> the argument that makes the loop start from them, in the pipeline's dtype."""
        loop = self.to_loop(latents)
        return (self.start.undo(loop) if self.start else loop).to(self.like)

    def to_decoder(self, latents: Tensor) -> Tensor:
        """Image latents -> the decoder's."""
        return self.decoding(self.to_loop(latents))

    def from_decoder(self, latents: Tensor) -> Tensor:
        """The decoder's -> image latents."""
        return self.from_loop(self.decoding.undo(latents))


def read_forms(runner: Runner) -> LatentForms:
    """Three to ten calls of the pipeline.

    Raises:
        ModelError: the pipeline makes more than one picture, its latents can't be traced, or its prediction
            changes from call to call.
    """
    kind = type(runner.pipeline).__name__
    with torch.no_grad(), torch.random.fork_rng(devices=devices(runner)):
        own = _first(runner)
        like = own.samples[0]
        start = _read_start(runner, own)
        argument = like if start is None else start.undo(like).to(like)
        try:
            with replayed(runner.pipeline):
                decoding = read_affine(_decoding(runner, argument), like.float())
        except ValueError as error:
            way = "the way of its latents to the autoencoder can't be undone"
            raise ModelError(f"{kind} can't be inverted: {way} ({error})") from error
        except FAULTS as error:
            raise ModelError(f"{kind} can't be called so: {first_line(error)}") from error
    made = tuple(decoding.place.shape)
    if len(made) not in (3, 4) or (len(made) == 4 and made[1] != 1):
        raise ModelError(f"{kind} can't be inverted: it doesn't make one picture, but latents {made}")
    return LatentForms(start, decoding, like.detach())


def _first(runner: Runner) -> Visit:
    kind = type(runner.pipeline).__name__
    try:
        own = runner.visit([0])
    except (ValueError, *FAULTS) as error:
        raise ModelError(f"{kind} can't be called so: {first_line(error)}") from error
    sample, prediction = tuple(own.samples[0].shape), tuple(own.predictions[0].shape)
    if sample[0] != 1:
        raise ModelError(f"{kind} makes {sample[0]} pictures of these arguments: give one prompt")
    if sample != prediction:
        raise ModelError(f"{kind} can't be inverted: it predicts {prediction} for latents {sample}")
    return own


def _read_start(runner: Runner, own: Visit) -> AffinePermutation | None:
    """How `latents=` becomes the loop's latents; a visit that started so agreed with `own`."""
    like, kind = own.samples[0], type(runner.pipeline).__name__
    shapes = [like.shape, *(shape for shape in own.drawn if shape.numel() == like.numel())]
    for shape in dict.fromkeys(shapes):
        try:
            given = runner.visit([0], latents=like.reshape(shape))
            start = None
            if given.samples[0].shape != like.shape or not torch.equal(given.samples[0], like):
                with replayed(runner.pipeline):
                    start = read_affine(
                        lambda x: torch.cat([runner.visit([0], latents=one[None]).samples[0] for one in x]),
                        like.reshape(shape),
                    )
                given = runner.visit([0], latents=start.undo(like).to(like))
        except (ValueError, TypeError, RuntimeError, AttributeError, IndexError):
            continue
        if not close(given.samples[0], like):
            continue
        if not close(given.predictions[0], own.predictions[0]):
            change = "its prediction changes from call to call under the same latents and arguments"
            raise ModelError(f"{kind} can't be inverted: {change}")
        return start
    raise ModelError(f"{kind} can't be inverted: what it makes of latents= can't be undone")


def _decoding(runner: Runner, argument: Tensor) -> Callable[[Tensor], Tensor]:
    def decoded(answers: Tensor) -> Tensor:
        latents = runner.visit([0], latents=argument, answers=[answers], to_decoder=True).decoded
        if latents is None:
            raise ValueError("its decoder isn't asked")
        return latents

    def function(answers: Tensor) -> Tensor:
        try:
            together = decoded(answers)
            if len(together) == len(answers):
                return together
        except (RuntimeError, IndexError):
            pass
        return torch.cat([decoded(one[None]) for one in answers])

    return function


def close(one: Tensor, other: Tensor) -> bool:
    """Whether they are the same but for rounding, and not finite at the same places."""
    if one.shape != other.shape or not torch.equal(one.isfinite(), other.isfinite()):
        return False
    rounding, finite = 1e-4 if other.dtype == torch.float32 else 0.05, other.isfinite()
    return bool((one - other)[finite].float().norm() <= rounding * other[finite].float().norm())


def devices(runner: Runner) -> list[torch.device]:
    """Those beside the CPU whose random numbers a pipeline may draw."""
    device = runner.pipeline._execution_device
    return [device] if device.type == "cuda" else []
