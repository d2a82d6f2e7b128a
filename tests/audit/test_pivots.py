"""Direct, null-text and LBO with its biases kept: all around the latents of a DDIM inversion."""

import pytest
import torch

from invrecon.core.peers import make_peer
from invrecon.core.sampling import ddim_inversion
from invrecon.metrics import latent_fidelity
from invrecon.settings import Effort
from tests.analytic import CurvedDenoiser, GaussianDenoiser, ddim_schedule
from tests.audit.peers import guide, round_trip, seed


@pytest.mark.parametrize("name", ["Direct", "null-text"])
def test_pivots_are_inverted_under_the_condition_alone(name, image_latents):
    schedule = ddim_schedule(5)
    strong, weak = (guide(CurvedDenoiser(), scale, condition=0.2) for scale in (7.5, 1.0))
    assert torch.equal(
        seed(name, 6, strong, schedule, image_latents), ddim_inversion(weak, schedule, image_latents)
    )


def test_null_text_meets_the_image_better_than_guided_ddim_inversion(image_latents):
    guided, schedule = guide(CurvedDenoiser(), 7.5, condition=0.2), ddim_schedule(20)
    plain, ours = (round_trip(name, None, guided, schedule, image_latents) for name in ("DDIM", "null-text"))
    assert latent_fidelity(image_latents, ours) > latent_fidelity(image_latents, plain) + 5


def test_null_text_learns_an_embedding_for_every_step_and_leaves_the_given_one_alone(image_latents):
    guided, schedule = guide(CurvedDenoiser(), 7.5, condition=0.2), ddim_schedule(5)
    stored = make_peer("null-text").invert(guided, schedule, image_latents)
    assert stored.extras["negatives"].shape == (5, 1, 4, 64)
    assert all(embedding.count_nonzero() for embedding in stored.extras["negatives"])
    assert not guided.negative.any()


def test_null_text_without_guidance_is_ddim_inversion(image_latents):
    guided, schedule = guide(CurvedDenoiser(), 1.0, condition=0.2), ddim_schedule(5)
    stored = make_peer("null-text").invert(guided, schedule, image_latents)
    assert torch.equal(stored.latents, ddim_inversion(guided, schedule, image_latents))
    assert guided.denoiser.evaluations == dict.fromkeys(schedule.timesteps, 2)  # ours, and the comparison's


def test_biases_are_those_known_in_closed_form(image_latents):
    """eps = k z + c makes a step affine: z_s = (A + B k) z + B c has one solution z, and b_t is z - z*_t."""
    denoiser, schedule = GaussianDenoiser(), ddim_schedule(10)
    stored = make_peer("LBO+biases", 100).invert(guide(denoiser), schedule, image_latents)
    below, biases = image_latents, list(stored.extras["biases"])[::-1]
    for t, A, B in list(zip(schedule.timesteps, schedule.A, schedule.B, strict=True))[::-1]:
        k, c = denoiser.affine(t)
        pivot = (below - B * denoiser(below, t)) / A
        torch.testing.assert_close(biases.pop(0), (below - B * c) / (A + B * k) - pivot, rtol=1e-7, atol=1e-9)
        below = pivot
    torch.testing.assert_close(stored.latents, below)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_the_seed_of_kept_biases_is_that_of_plain_ddim_inversion(scale, image_latents):
    guided, schedule = guide(CurvedDenoiser(), scale, condition=0.2), ddim_schedule(10)
    stored = make_peer("LBO+biases").invert(guided, schedule, image_latents)
    assert torch.equal(stored.latents, ddim_inversion(guided, schedule, image_latents))
    assert stored.extras["biases"].shape == (10, *image_latents.shape)


def test_kept_biases_lead_back_to_the_image_latents_within_the_tolerance_of_lbo(image_latents):
    guided, schedule = guide(CurvedDenoiser()), ddim_schedule(20)
    missed = round_trip("LBO+biases", None, guided, schedule, image_latents) - image_latents
    assert missed.norm() / image_latents.norm() < Effort().rtol
    exact = round_trip("LBO+biases", 60, guided, schedule, image_latents)
    torch.testing.assert_close(exact, image_latents, rtol=1e-9, atol=1e-9)


def test_a_larger_budget_brings_kept_biases_closer(image_latents):
    guided, schedule = guide(CurvedDenoiser(), 3.0, condition=0.2), ddim_schedule(20)
    fidelities = [
        latent_fidelity(image_latents, round_trip("LBO+biases", budget, guided, schedule, image_latents))
        for budget in (2, 3, 5, 10)
    ]
    assert fidelities == sorted(fidelities)


@pytest.mark.parametrize(
    "denoiser", [CurvedDenoiser(strength=60.0), lambda z, t: z * (float("nan") if t > 500 else 0.1)]
)
@pytest.mark.parametrize("evaluations", [None, 10])
def test_kept_biases_survive_divergence_and_nan(denoiser, evaluations, image_latents):
    stored = make_peer("LBO+biases", evaluations).invert(
        guide(denoiser), ddim_schedule(10), image_latents.float()
    )
    assert stored.latents.isfinite().all()
    assert stored.extras["biases"].isfinite().all()
