"""The Gaussian shell: where a diffusion model's noise lies, and the means and paths that stay there.

The norm r of z ~ N(0, I_d) has the chi density

    log p(r) = (d - 1) log r - r² / 2 - log Γ(d / 2) - (d / 2 - 1) log 2,

greatest at R = sqrt(d - 1), with a deviation of about 1 / sqrt(2) whatever d is. Two seeds are nearly
orthogonal, so that a straight line between them passes the origin at 0.71 R, hundreds of deviations from any
noise that a model has seen.

NAO (Samuel et al. 2023, arXiv:2306.08687) therefore measures a path by  ∫ -log p(‖z‖) ‖dz‖  and finds means
and paths under that measure numerically. Along an arc about the origin it is proportional to  -r log p(r),
whose minimum lies at R - 0.29 / R: to that precision the best path between two points of the shell is the
great arc between them, and the mean under the squared length of such paths the Fréchet mean on a sphere.
These are computed here, in float64; that they may stand in for NAO's is our own derivation.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from invrecon.errors import InputError


def radius(dimensions: int) -> float:
    """R = sqrt(d - 1), the likeliest norm of d Gaussian values."""
    return math.sqrt(dimensions - 1)


def log_density(norm: float, dimensions: int) -> float:
    """log p(r) of the chi distribution, r > 0."""
    half = dimensions / 2
    return (dimensions - 1) * math.log(norm) - norm**2 / 2 - math.lgamma(half) - (half - 1) * math.log(2)


def project(seeds: Tensor) -> Tensor:
    """R z / ‖z‖: the point of the shell next to each of n seeds, (n, C, h, w).

    Raises:
        InputError: a seed is zero, so that it points nowhere.
    """
    z = seeds.double()
    norms = z.flatten(1).norm(dim=1)
    if not norms.all():
        raise InputError("a seed that is zero throughout has no place on the Gaussian shell")
    return (z * (radius(z[0].numel()) / norms)[:, None, None, None]).to(seeds.dtype)


def linear(a: Tensor, b: Tensor, t: float) -> Tensor:
    """(1 - t) a + t b: the baseline, which leaves the shell."""
    return torch.lerp(a, b, t)


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """sin((1 - t) θ) / sin θ a + sin(t θ) / sin θ b,  θ the angle between a and b: the usual one, between
    seeds as they come.

    Its norm runs from that of `a` to that of `b`: it keeps to the shell as far as its ends do.

    Raises:
        InputError: a and b lie opposite to each other, where all great arcs are equally short.
    """
    x, y = a.double(), b.double()
    x, y = x / x.norm(), y / y.norm()
    angle = 2 * math.atan2((x - y).norm().item(), (x + y).norm().item())
    if math.pi - angle < 1e-6:
        raise InputError("two seeds lie opposite to each other: there is no shortest path between them")
    if angle < 1e-6:
        return torch.lerp(a, b, t)
    return ((math.sin((1 - t) * angle) * a.double() + math.sin(t * angle) * b.double()) / math.sin(angle)).to(
        a.dtype
    )


def arc(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The great arc on the shell, from the projection of `a` (t = 0) to that of `b` (t = 1), at constant
    speed.
    """
    return project(slerp(project(a), project(b), t))


PATHS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {"shell": arc, "slerp": slerp, "linear": linear}
"""(a, b, t) -> the seed at t in [0, 1] of the way; all (1, C, h, w)."""


def mean(seeds: Tensor, weights: Tensor, max_iterations: int = 500) -> Tensor:
    """The weighted Fréchet mean on the shell, which lies between the seeds as a convex combination lies
    between points:

        argmin_c Σ w_i θ(c, z_i)²,      c <- exp_c(Σ w_i log_c(z_i))  until it stands still

    with θ the angle and log_c(z) the arc from c to z as a tangent. The mean of two seeds at weights (1 - t,
    t) is `arc` at t. It is the only one where a half-space holds all seeds (Buss and Fillmore 2001,
    doi:10.1145/502122.502124).

    Args:
        seeds: z, (n, C, h, w), of any norm.
        weights: w >= 0, (n,); they are made to add up to 1.

    Raises:
        InputError: the seeds cancel out.
    """
    points = project(seeds.double()).flatten(1) / radius(seeds[0].numel())
    w = weights.double() / weights.double().sum()
    centre = w @ points
    if centre.norm() < 1e-6:
        raise InputError("the seeds cancel each other out: they have no mean on the Gaussian shell")
    centre = centre / centre.norm()
    for _ in range(max_iterations):
        cosines = points @ centre
        across = points - cosines[:, None] * centre
        sines = across.norm(dim=1)
        tangent = (w * torch.atan2(sines, cosines) / sines.clamp(min=1e-12)) @ across
        step = tangent.norm()
        centre = torch.cos(step) * centre + torch.sinc(step / math.pi) * tangent
        if step < 1e-9:
            break
    return project(centre.reshape(1, *seeds.shape[1:])).to(seeds.dtype)


def mix(centre: Tensor, noise: Tensor, spread: float) -> Tensor:
    """cos φ c + sin φ n,  φ = spread π / 2,  with n the part of the noise that is orthogonal to c; both
    brought onto the shell.

    The result lies on the shell, at the angle φ from c exactly: spread 0 is c, and spread 1 holds nothing of
    c.

    Args:
        centre, noise: (1, C, h, w).
        spread: in [0, 1].
    """
    c, n = project(centre.double()), noise.double()
    across = project(n - (n * c).sum() / c.square().sum() * c)
    return project(math.cos(spread * math.pi / 2) * c + math.sin(spread * math.pi / 2) * across).to(
        centre.dtype
    )


def around(seeds: Tensor, spread: float, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Endlessly many weights (n,) with new seeds (1, C, h, w): the weighted mean of the seeds, mixed with
    fresh noise.

    The first weights are equal; later ones are drawn evenly from all convex combinations (the flat Dirichlet
    distribution).

    Args:
        seeds: (n, C, h, w), on the CPU.
        spread: in [0, 1], see `mix`.
    """
    weights = torch.full((len(seeds),), 1 / len(seeds), dtype=torch.float64)
    while True:
        noise = torch.randn(seeds[:1].shape, generator=generator, dtype=torch.float64)
        yield weights, mix(mean(seeds, weights), noise, spread).to(seeds.dtype)
        drawn = torch.empty(len(seeds), dtype=torch.float64).exponential_(generator=generator)
        weights = drawn / drawn.sum()
