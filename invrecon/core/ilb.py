"""Image Latent Boosting: the image latents that are best for the picture, where the autoencoder's own are only good.

Source of the idea: "Latent Bias Alignment for High-Fidelity Diffusion Inversion in Real-World Image Reconstruction and
Manipulation" (Chen et al. 2026). Its details were not public to us; the loss, the proximal term, the stopping rules and the
warm start are our own. Measuring distances by what a denoiser takes for noise comes from regularisation by denoising
(Romano et al. 2017, arXiv:1611.02862).
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from invrecon.core import lbo
from invrecon.solve import Talk, converse

Decode = Callable[[Tensor], Tensor]  # (B, C, h, w) image latents -> (B, 3, H, W) pixels, differentiable
Score = Callable[[Tensor], float]  # regenerated image latents -> PSNR of the final picture, dB
Loss = Callable[[Tensor, Tensor], Tensor]  # (pixels, photo) -> scalar
Invert = Callable[
    [Tensor, lbo.Inversion | None], lbo.Inversion
]  # (image latents, the last round's inversion) -> inversion
Proceed = Callable[
    [int, float, Tensor], bool
]  # (evaluations so far, the lowest value of the last ten, the latents there) -> go on?
Loudness = Callable[
    [Tensor], tuple[float, Tensor]
]  # image latents -> how loud their seed will be, 1 being as loud as it may; gradient

WEIGHT = 0.04  # λ beside a limit of loudness; half as much and descent is slow, twice as much wins less
STIFFNESS = 10.0  # κ: descent ends about 1 % above the limit


@dataclass(frozen=True, eq=False)
class Inverting:
    """Asks for the `lbo.Inversion` of image latents (1, C, h, w); the last round's inversion, if any, helps."""

    image_latents: Tensor
    warm: lbo.Inversion | None = None


@dataclass(frozen=True, eq=False)
class Regenerating:
    """Asks for the image latents that seed noise (1, C, h, w) leads to."""

    latents: Tensor


@dataclass(frozen=True)
class Budget:
    """When to stop, whichever comes first.

    Args:
        rounds: re-inversions after the first inversion, >= 0.
        decoder_steps: passes through the decoder and back, between two inversions; fewer where they stop gaining.
        target_psnr: of the regenerated picture, dB.
        seconds: after so long no round is begun, nor a bout of ten decoder steps.
    """

    rounds: int = 1
    decoder_steps: int = 160
    target_psnr: float = math.inf
    seconds: float = math.inf


@dataclass(frozen=True)
class Round:
    """One inversion and what its seed gives back.

    Args:
        psnr: of the regenerated 8-bit picture against the photo, dB.
        distance: rms(z_0 - E(x)) / rms(E(x)), how far the latents were moved.
        decoder_steps: taken before this inversion.
        evaluations: of the network, by this inversion.
    """

    psnr: float
    distance: float
    decoder_steps: int
    evaluations: int


@dataclass(frozen=True)
class Boost:
    """The best round: its image latents z_0, their inversion, and what that regenerates.

    Args:
        plain: the first round's inversion, that of E(x).
        rounds: all of them; the first is not boosted.
    """

    image_latents: Tensor
    inversion: lbo.Inversion
    regenerated: Tensor
    plain: lbo.Inversion
    rounds: list[Round]


def squared_error(pixels: Tensor, photo: Tensor) -> Tensor:
    """mean (pixels - photo)², both (B, 3, H, W) in [-1, 1]."""
    return (pixels - photo).square().mean()


def boost(invert: Invert, regenerate: Callable[[Tensor], Tensor], *args: Any, **options: Any) -> Boost:
    """`boosting` of one photo: `invert` and `regenerate` are asked whenever it asks; the rest is the same."""

    def answer(asked: Mapping[int, Any]) -> dict[int, Any]:
        question = asked[0]
        if isinstance(question, Inverting):
            return {0: invert(question.image_latents, question.warm)}
        return {0: regenerate(question.latents)}

    return converse([boosting(*args, **options)], answer)[0]


class Objective:
    """What decoder steps minimise, and `boosting` with them:

        loss(D(z), x) / loss(D(E(x)), x) + λ mean((z - E(x)) (n(z) - n(E(x)))) + κ max(0, N(z) - limit)²,  as a whole times loss(D(E(x)), x)

    where N is as it was last seen and foretold from there,  N(z_k) + <∇N(z_k), z - z_k>.
    """

    def __init__(
        self,
        decode: Decode,
        encoded: Tensor,
        photo: Tensor,
        noise: Callable[[Tensor], Tensor],
        loss: Loss,
        weight: float,
    ) -> None:
        self.decode, self.encoded, self.photo, self.noise, self.loss, self.weight = (
            decode,
            encoded,
            photo,
            noise,
            loss,
            weight,
        )
        self.seen: tuple[Tensor, float, Tensor] | None = None
        self.limit = 1.0
        with torch.no_grad():
            self.familiar = noise(encoded)
            self.unit = loss(decode(encoded), photo)

    def __call__(self, latents: Tensor) -> Tensor:
        change = latents - self.encoded
        with torch.no_grad():
            force = self.noise(latents) - self.familiar
        half = (change * force).mean().clamp(min=0)  # the force is half the gradient of the whole
        total = self.loss(self.decode(latents), self.photo) + self.weight * self.unit * (
            2 * half - half.detach()
        )
        return (
            total + STIFFNESS * self.unit * (self.foretell(latents) - self.limit).clamp(min=0).square()
            if self.seen
            else total
        )

    def foretell(self, latents: Tensor) -> Tensor:
        """N, from where it was last seen."""
        assert self.seen
        where, loudness, slope = self.seen
        return loudness + (slope * (latents - where)).sum()

    def look(self, latents: Tensor, loudness: Loudness) -> float:
        """Finds N and its gradient here, and takes N as linear from now on. Returns N; NaN where one of them is not finite."""
        value, slope = loudness(latents)
        if not (math.isfinite(value) and slope.isfinite().all()):
            return math.nan
        self.seen = latents, value, slope
        return value


def boosting(
    decode: Decode,
    encoded: Tensor,
    photo: Tensor,
    score: Score,
    *,
    proximal_weight: float = WEIGHT,
    loudness: Loudness | None = None,
    noise: Callable[[Tensor], Tensor] = lambda latents: latents,
    known: lbo.Inversion | None = None,
    loss: Loss = squared_error,
    budget: Budget = Budget(),
    on_step: Callable[[int, int], None] | None = None,
) -> Talk[Boost]:
    """Adjusts z_0 so that D(zhat_0), zhat_0 = regenerate(invert(z_0)), comes close to the photo x:

        argmin_z0  loss(D(zhat_0), x) / loss(D(E(x)), x) + λ mean((zhat_0 - E(x)) (n(zhat_0) - n(E(x))))      where  N(zhat_0) <= 1

    jointly and approximately: the Jacobian of regenerate-after-invert is taken as the identity, so each round descends from
    zhat_0, adds the change to z_0, and inverts again. What the trajectory still loses is corrected with the rest.

    It asks for inversions (`Inverting`) and what they give back (`Regenerating`), so that those of many photos are made together.

    Args:
        decode: D, differentiable.
        encoded: E(x), (1, C, h, w).
        photo: x, (1, 3, H, W) in [-1, 1].
        score: judges zhat_0 by the final picture; the round that scores best is kept, never merely the last.
        proximal_weight: λ >= 0, in parts of the autoencoder's own loss per squared latent: so it means the same for photos that the
            autoencoder does well and for those it doesn't.
        loudness: N, where seeds are to be kept from being too loud. It is asked every twenty decoder steps and taken as linear between,
            and the penalty κ max(0, N - 1)² holds it: so latents give way where that costs the picture least. Where E(x) itself is
            louder than 1, that is the limit.
        noise: n, what a denoiser takes for noise in image latents. Changes that it takes for part of a picture cost little then, and
            those that no seed on the Gaussian shell leads to cost much. The identity makes the term λ mean((zhat_0 - E(x))²).
            Taken as linear and symmetric in the gradient: none goes through the network. Where the denoiser takes a change for less noise
            than there was, the term is 0: there is no reward.
        known: the inversion of E(x), where it is.
        loss: of pixels.

    Returns:
        At worst the plain inversion of E(x), which is the first round.
    """
    begun = time.monotonic()
    image_latents, steps = encoded, 0
    best: Boost | None = None
    rounds: list[Round] = []
    objective = Objective(decode, encoded, photo, noise, loss, proximal_weight)
    if loudness:
        objective.limit = max(1.0, loudness(encoded)[0])

    def go_on(step: int) -> bool:
        if on_step:
            on_step(min(step, budget.decoder_steps), budget.decoder_steps)
        return step < budget.decoder_steps and time.monotonic() - begun < budget.seconds

    inversion: lbo.Inversion = known or (yield Inverting(encoded))
    while True:
        regenerated = yield Regenerating(inversion.latents)
        distance = ((image_latents - encoded).norm() / encoded.norm()).item()
        evaluations = sum(record.evaluations for record in inversion.records)
        rounds.append(Round(score(regenerated), distance, steps, evaluations))
        if best is None or rounds[-1].psnr > max(earlier.psnr for earlier in rounds[:-1]):
            best = Boost(image_latents, inversion, regenerated, best.plain if best else inversion, rounds)
        if (
            len(rounds) > budget.rounds
            or rounds[-1].psnr >= budget.target_psnr
            or time.monotonic() - begun >= budget.seconds
        ):
            return best
        lower, steps = descend(objective, regenerated, _watching(objective, loudness, go_on))
        image_latents = image_latents + lower - regenerated
        inversion = yield Inverting(image_latents, inversion)


def _watching(objective: Objective, loudness: Loudness | None, go_on: Callable[[int], bool]) -> Proceed:
    """Looks at the loudness every second bout; ends the descent where the last one gained less than 0.005 dB and N is as expected."""
    values: list[float] = []

    def proceed(step: int, value: float, latents: Tensor) -> bool:
        values.append(value)
        if not go_on(step):
            return False
        if len(values) % 2:
            return True
        settled = value > 0.99885 * values[-2]
        if loudness is None:
            return not settled
        foretold = objective.foretell(latents).item() if objective.seen else None
        found = objective.look(latents, loudness)
        expected = found < objective.limit + 0.03 if foretold is None else abs(found - foretold) < 0.03
        return math.isfinite(found) and not (settled and expected)

    return proceed


def decoder_ceiling(
    decode: Decode, encoded: Tensor, photo: Tensor, score: Score, max_steps: int = 400
) -> float:
    """PSNR in dB of the best picture that the decoder can give:  min_z mean((D(z) - x)²), from E(x) until it stops gaining.

    It has stopped when 20 steps gain less than 0.02 dB, or after `max_steps`. No seed need lead to that z.
    """
    values: list[float] = []

    def proceed(step: int, value: float, _latents: Tensor) -> bool:
        values.append(10 * math.log10(max(value, 1e-30)))
        return step < max_steps and (len(values) < 3 or values[-3] - values[-1] > 0.02)

    best, _ = descend(lambda latents: squared_error(decode(latents), photo), encoded, proceed)
    return score(best)


def descend(objective: Callable[[Tensor], Tensor], start: Tensor, proceed: Proceed) -> tuple[Tensor, int]:
    """Minimises by L-BFGS (torch's, strong Wolfe). Returns the lowest point of the last ten evaluations or so, and how many were taken.

    Args:
        objective: latents -> scalar, differentiable. It may change a little between bouts of ten.
        proceed: asked after each bout.
    """
    # torch's first trial step has an L1 norm of 1: in these units it moves latents by 5 % of their deviation
    unit = 0.05 * start.std() * start.numel()
    change = torch.zeros_like(start, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [change],
        max_iter=1000,
        max_eval=10,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )
    lowest, best, steps = math.inf, start, 0

    def closure() -> Tensor:
        nonlocal lowest, best, steps
        with torch.enable_grad():
            latents = start + unit * change
            value = objective(latents)
            change.grad = torch.autograd.grad(value, change)[0].contiguous()
        steps += 1
        if value.item() < lowest:
            lowest, best = value.item(), latents.detach()
        return value.detach()

    while True:
        lowest = math.inf
        optimizer.step(closure)
        if not proceed(steps, lowest, best):
            return best, steps
