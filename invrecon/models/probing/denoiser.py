"""The guided prediction of a pipeline as a function of latents and timestep."""

import copy
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from invrecon.models.probing.conventions import conventions, parameters
from invrecon.models.probing.latents import LatentForms, close
from invrecon.models.probing.prompts import PROMPTS, encoded
from invrecon.models.probing.rescue import in_float32, networks
from invrecon.models.probing.runner import Runner, fresh


class PipelineDenoiser:
    """u(z, t), what the pipeline gives to its scheduler's `step`, guidance included.

    A batch goes through in one call, as `num_images_per_prompt`, where the pipeline takes that and its
    samples don't hang together; else sample by sample. Differentiable in the latents.

    Args:
        runner: calls the pipeline.
        forms: of the latents at this size.
        timesteps: the grid. At a timestep that isn't on it the network is asked as at the step that is
            nearest.
        input_scales: c of each step; the network sees c times the loop's latents.
        start_scale: of the seed in the argument `latents=`; 1 where the pipeline itself scales by its
            scheduler's `init_noise_sigma`.
        to_epsilon: (z, t, u) -> eps, for a network that doesn't predict the noise in a schedule that asks for
            it.
    """

    def __init__(
        self,
        runner: Runner,
        forms: LatentForms,
        timesteps: Sequence[float],
        input_scales: Sequence[float],
        start_scale: float = 1.0,
        to_epsilon: Callable[[Tensor, float, Tensor], Tensor] | None = None,
    ) -> None:
        self.runner, self.forms = runner, forms
        self.timesteps, self.input_scales = timesteps, input_scales
        self.start_scale, self.to_epsilon = start_scale, to_epsilon
        self.arguments: dict[str, Any] = {}
        self.rescued: set[float] = set()
        """Timesteps where a half-precision network had to be asked again in float32, for any sample."""
        self._batched: bool | None = None if "num_images_per_prompt" in parameters(runner.pipeline) else False

    def given(self, **arguments: Any) -> "PipelineDenoiser":
        """The same under other arguments of the pipeline, such as `negative_prompt_embeds`; gradients flow to
        those that require them."""
        other = copy.copy(self)
        other.arguments = self.arguments | arguments
        vars(other).pop("_negative", None)
        return other

    def at(self, guidance_scale: float) -> "PipelineDenoiser":
        """The same under another guidance, in the pipeline's own terms."""
        return self.given(**{conventions(self.runner.pipeline).guidance: guidance_scale})

    def unguided(self) -> "PipelineDenoiser":
        """The same without guidance."""
        return self.at(conventions(self.runner.pipeline).unguided)

    def away_from_prompt(self, other: "PipelineDenoiser") -> "PipelineDenoiser":
        """The same whose guidance leads away from another's prompt where that is given as embeddings; a text
        is a negative prompt of its own."""
        there, call = parameters(self.runner.pipeline), other.runner.call | other.arguments
        embeds = {
            f"negative_{name}": value
            for name, value in call.items()
            if "prompt_" in name and f"negative_{name}" in there and value is not None
        }
        text = {"negative_prompt": None} if "negative_prompt_embeds" in embeds else {}
        return self.given(**embeds, **text)

    def call(self, seed: Tensor) -> dict[str, Any]:
        """The arguments with which the pipeline, under the scheduler that belongs to it, makes the picture of
        seed noise (1, C, h, w)."""
        call = {name: fresh(value) for name, value in (self.runner.call | self.arguments).items()}
        return call | {"latents": self.forms.to_argument(seed * self.start_scale)}

    @property
    def guidance_scale(self) -> float:
        """In the pipeline's own terms; what means no guidance where it isn't given."""
        own = conventions(self.runner.pipeline)
        argument = parameters(self.runner.pipeline).get(own.guidance)
        value = (self.runner.call | self.arguments).get(own.guidance, argument.default if argument else None)
        return own.unguided if value is None else float(value)

    @property
    def weight(self) -> float:
        """w in  neg + w (pos - neg);  1 where there is one branch, or the network is told its guidance."""
        return conventions(self.runner.pipeline).weight(self.guidance_scale)

    @property
    def negative(self) -> Tensor:
        """The negative prompt's embedding, (1, L, D).

        Raises:
            ModelError: the pipeline doesn't encode a prompt as tokens and, maybe, a pooled embedding.
        """
        return self._negative[0]

    @cached_property
    def _negative(self) -> tuple[Tensor, dict[str, Any]]:
        """The embedding of tokens, and the arguments that go with it."""
        return encoded(self.runner.pipeline, self.runner.call | self.arguments)

    def under(self, embedding: Tensor) -> "PipelineDenoiser":
        """The same without guidance, under another embedding in the prompt's place, (1, L, D). Where the
        pipeline takes a pooled embedding too, it is the negative prompt's."""
        beside = dict.fromkeys(name for name in PROMPTS if name in parameters(self.runner.pipeline))
        pooled = self._negative[1]
        return self.unguided().given(**beside, prompt_embeds=embedding, **pooled)

    @property
    def rounding(self) -> float:
        """Relative error that rounding may leave in a prediction: that of both branches, w and w - 1
        times."""
        weight = self.weight
        return torch.finfo(self.forms.like.dtype).eps * math.hypot(weight, weight - 1)

    def __call__(self, latents: Tensor, timestep: float) -> Tensor:
        """(B, C, h, w) image latents as the network sees them -> what is predicted, same shape and dtype."""
        step = min(range(len(self.timesteps)), key=lambda k: abs(self.timesteps[k] - timestep))
        output = self._predict(latents, step, timestep)
        if self.forms.like.dtype != torch.float32:
            lost = latents.isfinite().flatten(1).all(1) & ~output.isfinite().flatten(1).all(1)
            if bool(lost.any()):
                self.rescued.add(timestep)
                with in_float32(networks(self.runner.pipeline)):
                    again = self._predict(latents, step, timestep)
                output = again if again.requires_grad else torch.where(lost.view(-1, 1, 1, 1), again, output)
        return self.to_epsilon(latents, timestep, output) if self.to_epsilon else output

    def _predict(self, latents: Tensor, step: int, timestep: float) -> Tensor:
        if len(latents) == 1:
            return self._ask(latents, step, timestep)
        if self._batched is None:
            self._batched = self._holds_together(latents, step, timestep)
        parts = [latents] if self._batched else latents.split(1)
        return torch.cat([self._ask(part, step, timestep) for part in parts])

    def _ask(self, latents: Tensor, step: int, timestep: float) -> Tensor:
        """One call of the pipeline."""
        batch = {"num_images_per_prompt": len(latents)} if self._batched is not False else {}
        visited = (step, timestep) if timestep != self.timesteps[step] else step
        argument = self.forms.to_argument(latents / self.input_scales[step])
        visit = self.runner.visit([visited], latents=argument, **(self.arguments | batch))
        output = self.forms.from_loop(visit.predictions[0]).to(latents)
        return output.clone(
            memory_format=torch.contiguous_format
        )  # a compiled network writes over its output

    @torch.no_grad()
    def _holds_together(self, latents: Tensor, step: int, timestep: float) -> bool:
        """Whether the first sample of a batch is predicted as if it were alone."""
        try:
            together = self._ask(latents, step, timestep)
        except torch.OutOfMemoryError:
            raise
        except (ValueError, RuntimeError, TypeError, IndexError, AttributeError):
            return False
        return len(together) == len(latents) and close(together[:1], self._ask(latents[:1], step, timestep))
