"""A sampler: what runs from noise to image latents, and what leads back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from invrecon.core import sampling
from invrecon.core.denoiser import Guided
from invrecon.core.guidance import invert_guided
from invrecon.core.lbo import Inversion
from invrecon.core.sampling import OnStep
from invrecon.core.schedule import Schedule
from invrecon.settings import Effort

OnProgress = Callable[[str, int, int], None]
"""Called with (stage, steps done, steps in all)."""


@dataclass(frozen=True)
class Sampler:
    """A denoiser on a grid of timesteps. All latents are batches, (B, C, h, w).

    Args:
        denoiser: eps(z, t), guidance included.
        schedule: the grid and its coefficients.
        effort: how exactly `invert` solves each step.
        on_progress: called after every step.
    """

    denoiser: Guided
    schedule: Schedule
    effort: Effort = Effort()
    on_progress: OnProgress | None = None

    def generate(self, latents: Tensor, stage: str = "regenerating") -> Tensor:
        """Image latents z_0 of seed noise z_T, by the plain sampler. T evaluations."""
        return sampling.generate(self.denoiser, self.schedule, latents, self._on_step(stage))

    def invert(self, image_latents: Tensor, warm: Sequence[Inversion | None] = ()) -> list[Inversion]:
        """The seed noise z_T of image latents, by Latent Bias Optimization (see `core.lbo`), sample by
        sample.

        Args:
            warm: for each sample, an inversion of image latents close to its own, or None.
        """
        on_step = self._on_step("inverting again" if any(warm) else "inverting")
        return invert_guided(
            self.denoiser, self.schedule, image_latents, self.effort, warm=warm, on_step=on_step
        )

    def ddim_invert(self, image_latents: Tensor, stage: str = "comparing: DDIM inversion") -> Tensor:
        """z_T by plain DDIM inversion, to compare with. T evaluations."""
        return sampling.ddim_inversion(self.denoiser, self.schedule, image_latents, self._on_step(stage))

    def _on_step(self, stage: str) -> OnStep | None:
        return partial(self.on_progress, stage) if self.on_progress else None


@dataclass(frozen=True)
class DDIMInverter(Sampler):
    """A sampler that is inverted by plain DDIM inversion, for comparisons. Its inversions hold no records."""

    def invert(self, image_latents: Tensor, warm: Sequence[Inversion | None] = ()) -> list[Inversion]:
        """The seed noise z_T of image latents, by plain DDIM inversion."""
        return [Inversion(z_T, [], []) for z_T in self.ddim_invert(image_latents, "inverting").split(1)]
