"""What all peers share, and those that solve each step alone or bring a sampler of their own."""

import pytest
import torch

from invrecon.core.peers import PEERS, Stored, make_peer
from invrecon.core.peers.noise_levels import noise_levels
from invrecon.core.sampling import ddim_inversion, generate
from invrecon.core.schedule import Schedule
from invrecon.metrics import latent_fidelity
from tests.analytic import CurvedDenoiser, GaussianDenoiser, Guided, alphas_cumprod, ddim_schedule
from tests.audit.peers import guide, part, round_trip, seed

SEED_ONLY = [name for name in PEERS if make_peer(name).track == "A"]


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_keeps_plain_tensors_of_the_input_s_dtype(name, image_latents):
    peer, guided, schedule = make_peer(name, 5), guide(CurvedDenoiser(), 3.0, condition=0.5), ddim_schedule(4)
    stored = peer.invert(guided, schedule, image_latents.float().repeat(2, 1, 1, 1))
    assert peer.name == name
    assert stored.latents.shape == (2, 4, 8, 8)
    assert stored.latents.dtype == torch.float32
    assert not any(tensor.requires_grad for tensor in (stored.latents, *stored.extras.values()))
    assert peer.generate(guided, schedule, stored).dtype == torch.float32


@pytest.mark.parametrize("name", SEED_ONLY)
def test_track_a_keeps_the_seed_alone_and_takes_the_plain_sampler(name, image_latents):
    peer, guided, schedule = make_peer(name, 3), guide(CurvedDenoiser()), ddim_schedule(4)
    stored = peer.invert(guided, schedule, image_latents)
    assert stored.extras == {}
    assert torch.equal(peer.generate(guided, schedule, stored), generate(guided, schedule, stored.latents))


def test_tracks():
    one_evaluation = ["DDIM", "IFE", "Uni-Inv"]
    iterated = ["FPI", "AIDI-E", "AIDI-A", "ReNoise", "GNRI", "ExactDPM", "gradient"]
    assert [*one_evaluation, *iterated] == SEED_ONLY
    assert PEERS[len(SEED_ONLY) :] == ("EDICT", "O-BELM", "null-text", "Direct", "LBO+biases")


def test_a_budget_below_one_is_refused():
    with pytest.raises(ValueError, match="less than one"):
        make_peer("FPI", 0)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_ddim_is_plain_ddim_inversion(scale, image_latents):
    guided, schedule = guide(CurvedDenoiser(), scale, condition=0.5), ddim_schedule(20)
    assert torch.equal(
        seed("DDIM", None, guided, schedule, image_latents), ddim_inversion(guided, schedule, image_latents)
    )


@pytest.mark.parametrize("name", ["FPI", "AIDI-E", "AIDI-A", "ExactDPM"])
@pytest.mark.parametrize("steps", [10, 50])
def test_fixed_points_are_the_seed_known_in_closed_form(name, steps, image_latents):
    denoiser, schedule = GaussianDenoiser(), ddim_schedule(steps)
    found = seed(name, 60, guide(denoiser), schedule, image_latents)
    torch.testing.assert_close(found, denoiser.exact_seed(schedule, image_latents), rtol=1e-9, atol=1e-9)


BETTER = [
    ("gradient", 150),
    ("GNRI", 10),
    *((name, None) for name in SEED_ONLY if name not in ("DDIM", "IFE", "Uni-Inv", "gradient")),
]


@pytest.mark.parametrize(("name", "evaluations"), BETTER)
def test_track_a_beats_plain_ddim_inversion(name, evaluations, image_latents):
    guided, schedule = guide(CurvedDenoiser()), ddim_schedule(4)
    plain, ours = (
        round_trip(*method, guided, schedule, image_latents)
        for method in (("DDIM", None), (name, evaluations))
    )
    assert latent_fidelity(image_latents, ours) > latent_fidelity(image_latents, plain) + 1


def test_averages_are_those_of_the_published_windows(image_latents):
    guided = guide(CurvedDenoiser())
    noisy, clean = part(ddim_schedule(10), 0, 1), part(ddim_schedule(10), 9)

    def plain(schedule, *counts):
        return torch.stack([seed("FPI", count, guided, schedule, image_latents) for count in counts]).mean(0)

    torch.testing.assert_close(seed("AIDI-E", 2, guided, noisy, image_latents), plain(noisy, 1, 2))
    torch.testing.assert_close(seed("ReNoise", None, guided, noisy, image_latents), plain(noisy, 9, 10))
    torch.testing.assert_close(seed("ReNoise", 5, guided, noisy, image_latents), plain(noisy, 5))
    torch.testing.assert_close(
        seed("ReNoise", None, guided, clean, image_latents), plain(clean, 1, 2, 3, 4, 5)
    )
    torch.testing.assert_close(seed("ReNoise", 2, guided, clean, image_latents), plain(clean, 1, 2))


def test_gnri_on_a_single_latent_is_newton_s_method():
    """eps = 0.2 z makes f affine: F = |z - f(z)| + 0.1 |z - μ| / β  is piecewise linear."""
    schedule, start = part(ddim_schedule(10), 0, 1), 1.5
    A, B = schedule.A[0], schedule.B[0]
    mean, variance = start / A, 1 - 1 / A**2

    def f(z):
        return (start - B * 0.2 * z) / A

    def objective(z):
        return abs(z - f(z)) + 0.1 * abs(z - mean) / variance

    newton = start - objective(start) * 1e-6 / (objective(start + 5e-7) - objective(start - 5e-7))
    assert objective(newton) < objective(start)
    guided = Guided(
        lambda latents, timestep, condition: 0.2 * latents, torch.zeros(1, 1, 1), torch.zeros(1, 1, 1)
    )
    found = seed("GNRI", None, guided, schedule, torch.full((1, 1, 1, 1), start, dtype=torch.float64))
    assert found.item() == pytest.approx(f(newton), rel=1e-5)


def test_exact_dpm_halves_its_rate_where_half_is_too_much(image_latents):
    """Phi(z) = 5 z: the rate 0.5 multiplies the error by -1.5, a quarter by -0.25."""
    schedule = part(ddim_schedule(10), 0, 1)
    slope = (5 - schedule.A[0]) / schedule.B[0]
    found = seed("ExactDPM", 100, guide(lambda latents, timestep: slope * latents), schedule, image_latents)
    torch.testing.assert_close(found, image_latents / 5)


def test_exact_dpm_as_published_stops_at_its_threshold(image_latents):
    guided, schedule = guide(CurvedDenoiser()), part(ddim_schedule(10), 0, 1)
    missed = (round_trip("ExactDPM", None, guided, schedule, image_latents) - image_latents).square().mean()
    assert 1e-5 < missed * 4 * 64 * 64 < 1e-3


@pytest.mark.parametrize(
    "denoiser", [CurvedDenoiser(strength=60.0), lambda z, t: z * (float("nan") if t > 500 else 0.1)]
)
@pytest.mark.parametrize("name", SEED_ONLY)
def test_track_a_survives_divergence_and_nan(name, denoiser, image_latents):
    for evaluations in (None, 10):
        assert (
            seed(name, evaluations, guide(denoiser), ddim_schedule(10), image_latents.float())
            .isfinite()
            .all()
        )


@pytest.mark.parametrize("name", SEED_ONLY)
def test_nan_from_the_first_step_on_is_survived(name, image_latents):
    assert (
        seed(name, None, guide(lambda z, t: z * float("nan")), ddim_schedule(4), image_latents)
        .isfinite()
        .all()
    )


def test_a_budget_of_one_makes_fixed_points_plain_ddim_inversion(image_latents):
    guided, schedule = guide(CurvedDenoiser()), ddim_schedule(10)
    plain = ddim_inversion(guided, schedule, image_latents)
    for name in ("FPI", "AIDI-E", "AIDI-A", "ReNoise", "ExactDPM"):
        torch.testing.assert_close(seed(name, 1, guided, schedule, image_latents), plain)


@pytest.mark.parametrize(("name", "tolerance"), [("EDICT", 1e-9), ("O-BELM", 1e-9), ("Direct", 1e-13)])
@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_exact_samplers_return_the_image_latents(name, tolerance, scale, image_latents):
    found = round_trip(
        name, None, guide(CurvedDenoiser(), scale, condition=0.2), ddim_schedule(20), image_latents
    )
    assert (found - image_latents).abs().max() < tolerance


@pytest.mark.parametrize("name", ["EDICT", "O-BELM", "Direct"])
def test_exact_samplers_need_what_they_store(name, image_latents):
    peer, guided, schedule = make_peer(name), guide(CurvedDenoiser()), ddim_schedule(10)
    stored = peer.invert(guided, schedule, image_latents)
    without = Stored(stored.latents, {key: torch.zeros_like(extra) for key, extra in stored.extras.items()})
    assert (peer.generate(guided, schedule, without) - image_latents).abs().max() > 1e-3


def test_the_pair_of_edict_stays_one_trajectory(image_latents):
    stored = make_peer("EDICT").invert(guide(GaussianDenoiser()), ddim_schedule(50), image_latents)
    assert latent_fidelity(stored.latents, stored.extras["y"]) > 20
    assert (
        latent_fidelity(GaussianDenoiser().exact_seed(ddim_schedule(50), image_latents), stored.latents) > 20
    )


def test_levels_are_those_behind_the_coefficients():
    schedule, abar = ddim_schedule(50), alphas_cumprod()
    expected = torch.cat((abar[schedule.timesteps], abar[:1]))
    found = torch.tensor(noise_levels(schedule), dtype=torch.float64)
    torch.testing.assert_close(
        found, torch.stack((expected.sqrt(), (1 - expected).sqrt()), 1), rtol=1e-9, atol=1e-9
    )


def test_coefficients_without_levels_are_refused():
    flow = Schedule([900, 500], [1.0, 1.0], [-0.4, -0.5])
    with pytest.raises(ValueError, match="a² \\+ s² = 1"):
        noise_levels(flow)


def test_o_belm_is_exact_where_the_trajectory_is_a_parabola():
    """With u = z / a, v = s / a and eps = 2 v, the flow du/dv = eps is u = v²."""
    schedule = ddim_schedule(20)
    grid = noise_levels(schedule)
    points = [torch.full((1, 4, 8, 8), a * (s / a) ** 2, dtype=torch.float64) for a, s in grid]
    slopes = {t: 2 * s / a for t, (a, s) in zip(schedule.timesteps, grid, strict=False)}
    guided = guide(lambda latents, timestep: torch.full_like(latents, slopes[timestep]))
    stored = Stored(points[0], {"previous": points[1]})
    torch.testing.assert_close(
        make_peer("O-BELM").generate(guided, schedule, stored), points[-1], rtol=1e-9, atol=1e-9
    )


COST = {
    "DDIM": {None: 1, 1: 1, 2: 1, 3: 1, 5: 1, 10: 1},
    "IFE": {None: 1, 1: 1, 2: 1, 3: 1, 5: 1, 10: 1},
    "Uni-Inv": {None: 1, 1: 1, 2: 2, 3: 3, 5: 5, 10: 10},
    "FPI": {None: 5, 1: 1, 2: 2, 3: 3, 5: 5, 10: 10},
    "AIDI-E": {None: 5, 1: 1, 2: 2, 3: 3, 5: 5, 10: 10},
    "AIDI-A": {None: 5, 1: 1, 2: 2, 3: 3, 5: 5, 10: 10},
    "ReNoise": {None: 10, 1: 1, 2: 2, 3: 3, 5: 5, 10: 10},
    "GNRI": {None: 4, 1: 4, 2: 4, 3: 4, 5: 4, 10: 10},
    "ExactDPM": {1: 1, 2: 2, 3: 3, 5: 5, 10: 10},
    "gradient": {None: 60, 1: 3, 2: 3, 3: 3, 5: 3, 10: 9},
    "EDICT": {None: 2, 1: 2, 2: 2, 3: 2, 5: 2, 10: 2},
    "null-text": {None: 33, 1: 6, 2: 6, 3: 6, 5: 6, 10: 9},
    "Direct": {None: 2, 1: 2, 2: 2, 3: 2, 5: 2, 10: 2},
    "LBO+biases": {1: 2, 2: 2, 3: 3, 5: 5, 10: 10},
}


@pytest.mark.parametrize(
    ("name", "evaluations"), [(name, evaluations) for name, costs in COST.items() for evaluations in costs]
)
def test_every_step_keeps_to_its_budget(name, evaluations, image_latents):
    guided, schedule = guide(CurvedDenoiser(), 3.0, condition=5.0), ddim_schedule(5)
    make_peer(name, evaluations).invert(guided, schedule, image_latents)
    expected = dict.fromkeys(schedule.timesteps, COST[name][evaluations])
    if name == "ReNoise":
        expected |= {t: min(5, expected[t]) for t in schedule.timesteps if t < 250}
    one_more = name in ("gradient", "IFE") or (name == "Uni-Inv" and evaluations in (None, 1))
    if one_more:  # the first prediction, at z_0
        expected[schedule.timesteps[-1]] += 1
    if name == "IFE":  # its last step asks at the timestep before
        del expected[schedule.timesteps[0]]
    assert guided.denoiser.evaluations == expected


def test_o_belm_costs_one_evaluation_a_step(image_latents):
    guided, schedule = guide(CurvedDenoiser()), ddim_schedule(10)
    stored = make_peer("O-BELM").invert(guided, schedule, image_latents)
    assert sum(guided.denoiser.evaluations.values()) == 10
    make_peer("O-BELM").generate(guided, schedule, stored)
    assert sum(guided.denoiser.evaluations.values()) == 19
