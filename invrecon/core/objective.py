"""What Image Latent Boosting minimises for one photo, and how its result is judged."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

Decode = Callable[[Tensor], Tensor]
"""(B, C, h, w) image latents -> (B, 3, H, W) pixels, differentiable."""

Score = Callable[[Tensor], float]
"""Regenerated image latents (1, C, h, w) -> PSNR of the final picture, dB."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""(pixels, photo), both (1, 3, H, W) -> scalar."""

SeedNorm = Callable[[Tensor], tuple[float, Tensor]]
"""Image latents -> the norm of their seed in units of the largest norm allowed, and its gradient."""

PROXIMAL_WEIGHT = 0.04  # λ beside a norm limit: with half of it descent is slow, with twice of it less is won
PENALTY = 10.0  # κ: descent ends about 1 % above the norm limit


def squared_error(pixels: Tensor, photo: Tensor) -> Tensor:
    """mean (pixels - photo)², both (B, 3, H, W) in [-1, 1]."""
    return (pixels - photo).square().mean()


@dataclass(eq=False)
class Objective:
    """Of image latents z, near those that the encoder gives, E(x):

        loss(D(z), x) / loss(D(E(x)), x) + λ mean((z - E(x)) (n(z) - n(E(x)))) + κ max(0, N(z) - limit)²

    as a whole times loss(D(E(x)), x).

    Args:
        decode: D.
        coarse: D in half precision, which takes its place until `refine` is called; None for D itself.
        encoded: E(x), (1, C, h, w).
        photo: x, (1, 3, H, W) in [-1, 1].
        score: judges regenerated image latents by the final picture.
        weight: λ >= 0, in parts of the autoencoder's own loss per squared latent: so it means the same for
            photos that the autoencoder does well and for those it doesn't.
        noise: n, what a denoiser takes for noise in image latents. Changes that it takes for part of a
            picture cost little then, and those that no seed on the Gaussian shell leads to cost much. The
            identity makes the term λ mean((z - E(x))²). It is taken as linear and symmetric in the gradient:
            none goes through the network. Where the denoiser takes a change for less noise than there was,
            the term is 0.
        seed_norm: N, where the seed's norm is to be limited; where it is None, the last term is left out. It
            is asked now and then (`update_seed_norm`) and taken as linear in between,  N(z_k) + <∇N(z_k), z -
            z_k>.  The limit is 1, or N(E(x)) where that is larger.
        loss: of pixels.
        seen: the part of pixels that shows the photo, where the decoder gives more.
    """

    decode: Decode
    encoded: Tensor
    photo: Tensor
    score: Score
    weight: float = PROXIMAL_WEIGHT
    noise: Callable[[Tensor], Tensor] = lambda latents: latents
    seed_norm: SeedNorm | None = None
    loss: Loss = squared_error
    seen: Callable[[Tensor], Tensor] = lambda pixels: pixels
    coarse: Decode | None = None
    evaluations: int = field(default=0, init=False)
    """Of the denoiser by `noise`."""
    norm_limit: float = field(default=1.0, init=False)
    version: int = field(default=0, init=False)
    """How often the objective changed, by an updated seed norm or by `refine`."""
    _linear: tuple[Tensor, float, Tensor] | None = field(default=None, init=False)

    @torch.no_grad()
    def __post_init__(self) -> None:
        self._encoded_noise = self.noise(self.encoded)
        self._unit = self.loss(self.seen(self.decode(self.encoded)), self.photo)
        self.evaluations = 1
        if self.seed_norm:
            self.norm_limit = max(1.0, self.seed_norm(self.encoded)[0])

    def __call__(self, latents: Tensor, pixels: Tensor, noise: Tensor) -> Tensor:
        """The objective at (1, C, h, w), a scalar, differentiable.

        Args:
            pixels: D there.
            noise: n there.
        """
        self.evaluations += 1
        change = latents - self.encoded
        force = (noise - self._encoded_noise).detach()
        half = (change * force).mean().clamp(min=0)  # the force is half the gradient of the whole term
        total = self.loss(self.seen(pixels), self.photo) + self.weight * self._unit * (
            2 * half - half.detach()
        )
        if self._linear is None:
            return total
        excess = (self.estimated_norm(latents) - self.norm_limit).clamp(min=0)
        return total + PENALTY * self._unit * excess.square()

    @staticmethod
    def of_each(objectives: Sequence["Objective"], latents: Tensor) -> Tensor:
        """The objectives of several photos, (n,), each at its own latents, (n, C, h, w), by one pass through
        the decoder and one of the denoiser, which they share.
        """
        first = objectives[0]
        with torch.no_grad():
            noise = first.noise(latents)
        pixels = (first.coarse or first.decode)(latents)
        rows = zip(objectives, latents.split(1), pixels.split(1), noise.split(1), strict=True)
        return torch.stack([one(*row) for one, *row in rows])

    def refine(self) -> None:
        """Lets D itself take the place of the coarse one."""
        if self.coarse:
            self.coarse, self.version = None, self.version + 1

    def estimated_norm(self, latents: Tensor) -> Tensor:
        """N at these latents, from where it was last computed; NaN where it never was."""
        if self._linear is None:
            return latents.new_tensor(math.nan)
        where, norm, gradient = self._linear
        return norm + (gradient * (latents - where)).sum()

    def update_seed_norm(self, latents: Tensor) -> float:
        """Computes N and its gradient here. Returns N; NaN, and nothing changes, where one of them is not
        finite.
        """
        assert self.seed_norm
        norm, gradient = self.seed_norm(latents)
        if not (math.isfinite(norm) and gradient.isfinite().all()):
            return math.nan
        self._linear = latents, norm, gradient
        self.version += 1
        return norm
