"""A live pipeline of diffusers, as the rest of the program takes models."""

from collections.abc import Mapping
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from invrecon.core.schedule import Schedule
from invrecon.errors import ModelError, UsageError
from invrecon.models.probing.autoencoder import Autoencoder
from invrecon.models.probing.conventions import completed
from invrecon.models.probing.denoiser import PipelineDenoiser
from invrecon.models.probing.epsilon import ToEpsilon, in_epsilon
from invrecon.models.probing.latents import LatentForms, close, devices, read_forms
from invrecon.models.probing.memo import Kept
from invrecon.models.probing.prompts import check_prompts
from invrecon.models.probing.replay import replayed
from invrecon.models.probing.runner import Runner, check_call, first_line
from invrecon.models.probing.scheduler import released
from invrecon.models.probing.steps import input_scales, read_steps


class PipelineModel:
    """Pixels to image latents and back, and the pipeline's arguments to a denoiser and a schedule.

    Args:
        pipeline: as its user loaded it; it is never changed.
        call: the arguments that its user calls it with, but for `latents` and `output_type`.
        stateless: whether a prediction is known to hang on latents and timestep alone, and isn't tried.
        may_switch: see `Autoencoder`.

    Raises:
        ModelError: it can't be inverted; the text says why, in one line.
        UsageError: it takes no such arguments.
    """

    def __init__(
        self, pipeline: Any, call: Mapping[str, Any], stateless: bool = False, may_switch: bool = False
    ) -> None:
        check_call(pipeline, call)
        self.pipeline = pipeline
        self.arguments = completed(pipeline, call)
        self.device: torch.device = pipeline._execution_device
        self.autoencoder = Autoencoder(pipeline.vae, self.device, may_switch)
        self._forms: dict[tuple[Any, Any], LatentForms] = {}
        self._encoded: dict[str, Kept] = {}
        self._stateless = stateless
        self._checked: set[bool] = {True, False} if stateless else set()  # with guidance, and without

    @classmethod
    def from_pipeline(cls, pipeline: Any, **call: Any) -> "PipelineModel":
        """The model of a live pipeline, checked by a few calls of it.

        Args:
            pipeline: any text-to-image pipeline of diffusers with a scheduler that draws no noise.
            call: what its user would call it with: prompts or embeddings, steps, guidance, size, control
                images.

        Raises:
            ModelError: it can't be inverted; the text says why, in one line.
            UsageError: it takes no such arguments.
        """
        model = cls(pipeline, call)
        model.denoiser_and_schedule()
        return model

    def denoiser_and_schedule(
        self, scheduler: Any = None, **changes: Any
    ) -> tuple[PipelineDenoiser, Schedule]:
        """What the solvers are given.

        Args:
            scheduler: in place of the pipeline's own.
            changes: arguments in place of those that the model was made with.

        Raises:
            ModelError: the scheduler draws noise or can't be undone, or something is carried from step to
                step.
        """
        runner = self._runner(changes, scheduler)
        check_prompts(self.pipeline, runner.call)
        with replayed(runner.pipeline) if self._stateless else nullcontext():
            forms = self._forms_of(runner)
            zeros = forms.to_argument(torch.zeros(1, *forms.shape, device=self.device))
            start = runner.look(zeros)
        stepping = released(runner.probe)
        to_epsilon = _epsilon_form(stepping)
        schedule = read_steps(stepping, start.options)
        scales = input_scales(stepping)
        scale = float(getattr(stepping, "init_noise_sigma", 1.0)) / start.start_scale
        denoiser = PipelineDenoiser(runner, forms, schedule.timesteps, scales, scale, to_epsilon)
        guided = denoiser.guidance_scale != denoiser.unguided().guidance_scale
        if guided not in self._checked:
            check_stateless(denoiser)
            check_repeatable(Runner(self.pipeline, runner.call, scheduler), zeros, start.predictions[0])
            self._checked.add(guided)
        return denoiser, schedule

    def call(self, seed: Tensor, **changes: Any) -> dict[str, Any]:
        """The arguments with which the user's pipeline makes the picture of seed noise (1, C, h, w):
        `pipe(**model.call(seed))`."""
        return self.denoiser_and_schedule(**changes)[0].call(seed)

    def encode(self, pixels: Tensor) -> Tensor:
        """Image latents z_0, the mean of E(x) as the loop has it: (B, 3, H, W) in [-1, 1] -> (B, C, h, w),
        float32."""
        return self._forms_at(*pixels.shape[-2:]).from_decoder(self.autoencoder.encode(pixels))

    def decode(self, image_latents: Tensor) -> Tensor:
        """Pixels of image latents: (B, C, h, w) -> (B, 3, H, W), float32, not yet clamped to [-1, 1].
        Differentiable."""
        return self.autoencoder.decode(self.to_decoder(image_latents))

    def to_decoder(self, image_latents: Tensor) -> Tensor:
        """What the pipeline gives to its autoencoder's decoder of image latents. Differentiable."""
        height, width = (side * self.downsampling for side in image_latents.shape[-2:])
        return self._forms_at(height, width).to_decoder(image_latents)

    @property
    def downsampling(self) -> int:
        """Pixels to a latent, along a side."""
        return self.autoencoder.downsampling

    @cached_property
    def latent_channels(self) -> int:
        """C of image latents (B, C, h, w)."""
        if not self._forms:
            self._forms_at(8 * self.multiple, 8 * self.multiple)
        return next(iter(self._forms.values())).shape[0]

    @cached_property
    def multiple(self) -> int:
        """What the sides of a picture must be multiples of, pixels; found by trying. Where no size that was
        tried is taken as it is, the pipeline has sizes of its own, and names them when it is asked for
        another.
        """
        for multiple in (self.downsampling * patch for patch in (1, 2, 4, 8, 16)):
            try:
                self._forms_at(7 * multiple, 7 * multiple)
                return multiple
            except (ModelError, UsageError):
                continue
        return self.downsampling

    def _runner(self, changes: Mapping[str, Any], scheduler: Any = None) -> Runner:
        check_call(self.pipeline, changes)
        call = completed(self.pipeline, self.arguments | dict(changes))
        return Runner(self.pipeline, call, scheduler, self._encoded)

    def _forms_at(self, height: int, width: int) -> LatentForms:
        size = {"height": height, "width": width}
        if (height, width) in self._forms:
            return self._forms[height, width]
        runner = self._runner(size)
        with replayed(runner.pipeline) if self._stateless else nullcontext():
            return self._forms_of(runner)

    def _forms_of(self, runner: Runner) -> LatentForms:
        height, width = runner.call.get("height"), runner.call.get("width")
        if (height, width) not in self._forms:
            forms = read_forms(runner)
            made = tuple(side * self.downsampling for side in forms.shape[-2:])
            if made != (height or made[0], width or made[1]):
                kind, asked = type(self.pipeline).__name__, f"{width} x {height}"
                raise UsageError(f"{kind} makes {made[1]} x {made[0]} pixels of {asked}: ask for these")
            self._forms[height, width] = self._forms[made] = forms
        return self._forms[height, width]


def _epsilon_form(scheduler: Any) -> ToEpsilon | None:
    """Lets DDIM take the noise, and returns what turns predictions into it; None where they are the noise, or
    aren't turned into it."""
    kind = scheduler.config.get("prediction_type")
    if kind not in ("v_prediction", "sample") or not in_epsilon(scheduler):
        return None
    scheduler.register_to_config(prediction_type="epsilon")
    return ToEpsilon(scheduler.alphas_cumprod, kind)


def check_repeatable(runner: Runner, latents: Tensor, prediction: Tensor) -> None:
    """Raises ModelError where a runner that encodes prompts anew doesn't predict the same of the same
    latents: text encoders in training mode drop values at random."""
    with torch.random.fork_rng(devices=devices(runner)):
        torch.rand(1, device=runner.pipeline._execution_device)  # so that others are dropped
        again = runner.look(latents).predictions[0]
    if not close(again, prediction):
        kind, cure = type(runner.pipeline).__name__, "call .eval() of its text encoders"
        raise ModelError(f"{kind} can't be inverted: it encodes the prompt otherwise at each call: {cure}")


@torch.no_grad()
def check_stateless(denoiser: PipelineDenoiser) -> None:
    """Raises ModelError where a prediction hangs on the step before it: no eps(z, t) exists then. The steps
    half-way and at the end are tried, alone and after the one before, which saw other latents."""
    runner, forms, steps = denoiser.runner, denoiser.forms, len(denoiser.timesteps)
    tried = [k for k in sorted({steps // 2, steps - 1}) if k > 0]
    noise = torch.randn(2, *forms.shape, generator=torch.Generator().manual_seed(0)).to(forms.like.device)
    one, other = forms.to_argument(noise).split(1)
    latents = one if forms.start is None else forms.start(one).to(one)
    kind = type(runner.pipeline).__name__
    for k in tried:
        try:
            alone = runner.visit([k], latents=one).predictions[0]
            after = runner.visit([k - 1, k], latents=other, answers=[latents, latents]).predictions[1]
        except RuntimeError as error:
            raise ModelError(f"{kind} can't be asked at one step alone: {first_line(error)}") from error
        if not close(after, alone):
            cure = "switch off momentum guidance or the cache"
            raise ModelError(
                f"{kind}'s prediction hangs on the steps before it, which can't be inverted: {cure}"
            )
