"""The Gaussian shell: identities of means, paths and mixtures there, and that they stay there."""

import math
from itertools import pairwise

import pytest
import torch

from invrecon.core.shell import PATHS, arc, around, linear, log_density, mean, mix, project, radius, slerp
from invrecon.errors import InputError


def seeds(count: int, size: int = 8, norms=(0.8, 1.7, 1.2, 1.0, 0.9)) -> torch.Tensor:
    """Seeds as inversion finds them: on the shell some, off it most."""
    generator = torch.Generator().manual_seed(count)
    scales = torch.tensor([norms[n % len(norms)] for n in range(count)], dtype=torch.float64)
    return (
        torch.randn(count, 12, size, size, generator=generator, dtype=torch.float64)
        * scales[:, None, None, None]
    )


def norms(z: torch.Tensor) -> torch.Tensor:
    """‖z‖ / sqrt(d) of each."""
    return z.double().square().flatten(1).mean(1).sqrt()


def angle(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a.double() / a.double().norm(), b.double() / b.double().norm()
    return 2 * math.atan2((a - b).norm().item(), (a + b).norm().item())


@pytest.mark.parametrize("dimensions", [48, 768, 12288])
def test_the_shell_is_where_norms_of_gaussian_noise_are_likeliest(dimensions):
    peak = radius(dimensions)
    assert log_density(peak, dimensions) > max(
        log_density(peak * factor, dimensions) for factor in (0.99, 1.01)
    )
    drawn = torch.randn(
        400, dimensions, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ).norm(dim=1)
    assert drawn.mean().item() == pytest.approx(peak, abs=0.15)
    assert drawn.std().item() == pytest.approx(math.sqrt(0.5), rel=0.15)


def test_the_chi_density_integrates_to_one():
    r = torch.linspace(0.01, 40, 40_000, dtype=torch.float64)
    density = torch.tensor([math.exp(log_density(value, 48)) for value in r.tolist()], dtype=torch.float64)
    assert torch.trapezoid(density, r).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("dimensions", [768, 12288])
def test_the_arc_that_costs_least_under_the_measure_of_nao_is_that_on_the_shell(dimensions):
    radii = [radius(dimensions) + n / 10_000 for n in range(-2000, 2000)]
    best = min(radii, key=lambda r: -r * log_density(r, dimensions))
    assert best == pytest.approx(radius(dimensions) - 0.29 / radius(dimensions), abs=2e-3)


@pytest.mark.parametrize("norm", [0.8, 1.7])
def test_a_path_on_the_shell_joins_the_projected_ends_at_constant_speed_and_keeps_the_norm(norm):
    a, b = seeds(2, norms=(norm, 1.1)).split(1)
    points = [arc(a, b, t / 10) for t in range(11)]
    torch.testing.assert_close(points[0], project(a))
    torch.testing.assert_close(points[-1], project(b))
    assert all(abs(norms(point).item() - 1) < 0.02 for point in points)
    steps = [angle(x, y) for x, y in pairwise(points)]
    assert steps == pytest.approx([angle(a, b) / 10] * 10)


def test_a_straight_path_leaves_the_shell_and_slerp_keeps_to_it_as_far_as_its_ends_do():
    a, b = project(seeds(2)).split(1)
    assert norms(linear(a, b, 0.5)).item() == pytest.approx(math.cos(angle(a, b) / 2) * norms(a).item())
    assert norms(linear(a, b, 0.5)).item() < 0.75
    torch.testing.assert_close(slerp(a, b, 0.3), arc(a, b, 0.3))
    assert norms(slerp(0.8 * a, 0.8 * b, 0.5)).item() == pytest.approx(0.8, abs=0.01)
    for path in PATHS.values():
        torch.testing.assert_close(path(a, b, 0.0), a)
        torch.testing.assert_close(path(a, b, 1.0), b)


def test_the_mean_of_one_seed_is_that_seed_on_the_shell_and_of_equal_seeds_too():
    z = seeds(1)
    torch.testing.assert_close(mean(z, torch.ones(1)), project(z))
    torch.testing.assert_close(
        mean(torch.cat((z, 2 * z, 0.5 * z)), torch.tensor([1.0, 2.0, 3.0])), project(z)
    )


@pytest.mark.parametrize("t", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_mean_of_two_seeds_lies_on_their_path(t):
    z = seeds(2)
    torch.testing.assert_close(mean(z, torch.tensor([1 - t, t])), arc(z[:1], z[1:], t), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("count", [3, 5, 40])
def test_a_mean_is_stationary_on_the_shell_and_knows_no_order(count):
    z, weights = (
        seeds(count),
        torch.rand(count, generator=torch.Generator().manual_seed(1), dtype=torch.float64),
    )
    centre = mean(z, weights)
    assert abs(norms(centre).item() - 1) < 0.02
    order = torch.randperm(count, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(mean(z[order], weights[order]), centre, atol=1e-6, rtol=1e-6)

    def spent(c):
        return sum(w * angle(c, one[None]) ** 2 for w, one in zip(weights.tolist(), z, strict=True))

    aside = 0.01 * torch.randn(centre.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    nearby = [centre + aside, centre - aside, *(arc(centre, one[None], 0.01) for one in z)]
    assert spent(centre) < min(map(spent, nearby))


@pytest.mark.parametrize("spread", [0.0, 0.2, 0.5, 1.0])
def test_spread_is_the_angle_from_the_mean_in_right_angles(spread):
    centre, noise = seeds(1), seeds(3)[:1]
    mixed = mix(centre, noise, spread)
    assert angle(mixed, centre) == pytest.approx(spread * math.pi / 2, abs=1e-9)
    assert abs(norms(mixed).item() - 1) < 0.02


def test_new_seeds_begin_with_the_plain_mean_and_are_the_same_for_the_same_generator():
    z = seeds(3).float()

    def drawn(seed, spread=0.3):
        return [
            pair
            for pair, _ in zip(around(z, spread, torch.Generator().manual_seed(seed)), range(6), strict=False)
        ]

    torch.testing.assert_close(drawn(0, 0.0)[0][1], mean(z, torch.ones(3)))
    for (weights, seed), (again, same), (_, other) in zip(drawn(0), drawn(0), drawn(1), strict=True):
        assert weights.sum().item() == pytest.approx(1)
        assert weights.min() >= 0
        assert torch.equal(weights, again)
        assert torch.equal(seed, same)
        assert not torch.equal(seed, other)
        assert seed.dtype == torch.float32
        assert abs(norms(seed).item() - 1) < 0.02
        assert angle(seed, mean(z, weights)) == pytest.approx(0.3 * math.pi / 2, abs=1e-4)


def test_seeds_without_a_mean_or_a_path_are_refused():
    z = seeds(1)
    with pytest.raises(InputError, match="cancel"):
        mean(torch.cat((z, -z)), torch.ones(2))
    with pytest.raises(InputError, match="opposite"):
        arc(z, -z, 0.5)
    with pytest.raises(InputError, match="zero"):
        project(torch.zeros_like(z))
