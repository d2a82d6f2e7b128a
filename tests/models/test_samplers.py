"""Every sampler takes the steps of diffusers' own scheduler, and is undone exactly."""

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
)

from invrecon.core import multistep
from invrecon.core.lbo import Inversion
from invrecon.core.sampling import ddim_inversion, generate
from invrecon.errors import ModelError
from invrecon.metrics import latent_fidelity
from invrecon.models.quiet import quiet
from invrecon.models.samplers import make_scheduler, pick_sampler, replacement
from invrecon.settings import Effort
from invrecon.solve import Outcome
from tests.analytic import CurvedDenoiser, GaussianDenoiser
from tests.models.schedules import read_schedule

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
V = {"prediction_type": "v_prediction"}
ZERO_SNR = {**V, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}


def ddim(**options):
    return DDIMScheduler(**{**BETAS, "clip_sample": False, **options})


def euler(**options):
    return EulerDiscreteScheduler(**BETAS, **options)


def dpm(**options):
    return DPMSolverMultistepScheduler(**BETAS, **options)


SCHEDULERS = {
    "ddim": ddim(),
    "ddim, v": ddim(**V),
    "ddim, sample": ddim(prediction_type="sample", set_alpha_to_one=False),
    "ddim, linspace": ddim(timestep_spacing="linspace", set_alpha_to_one=False),
    "ddim, zero terminal snr": ddim(**ZERO_SNR),
    "euler, leading": euler(timestep_spacing="leading", steps_offset=1),
    "euler, trailing": euler(timestep_spacing="trailing"),
    "euler, linspace, v": euler(**V),
    "euler, karras": euler(use_karras_sigmas=True),
    "euler, zero terminal snr": euler(**ZERO_SNR),
    "dpm++": dpm(),
    "dpm++, v, leading": dpm(**V, timestep_spacing="leading", steps_offset=1),
    "dpm++, karras": dpm(use_karras_sigmas=True),
    "dpm++, heun": dpm(solver_type="heun"),
    "dpm++, euler at final": dpm(euler_at_final=True, timestep_spacing="trailing"),
    "dpm++, to the last sigma": dpm(final_sigmas_type="sigma_min"),
    "dpm++, zero terminal snr": dpm(**ZERO_SNR),
    "flow": FlowMatchEulerDiscreteScheduler(shift=3.0),
}


def network(latents, timestep):
    """Smooth, coupled, non-linear; its output is taken for whatever the scheduler says that it predicts."""
    return 0.4 * torch.tanh(latents.roll(1, -1) + timestep / 500) + 0.2 * latents


def stock(scheduler, steps, seed):
    """The loop of a stock pipeline."""
    with quiet():
        scheduler.set_timesteps(steps)
    latents = seed * getattr(scheduler, "init_noise_sigma", 1.0)
    for t in scheduler.timesteps:
        seen = scheduler.scale_model_input(latents, t) if hasattr(scheduler, "scale_model_input") else latents
        latents = scheduler.step(network(seen, t.item()), t, latents, return_dict=False)[0]
    return latents


def invert(denoiser, schedule, image_latents, warm=None, **effort) -> Inversion:
    [inversion] = multistep.invert(denoiser, schedule, image_latents, Effort(**effort), warm=[warm])
    return inversion


def noise(number):
    return torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(number))


@pytest.mark.parametrize("steps", [1, 2, 7, 20])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_way_down_is_the_scheduler_s_own(name, steps):
    if steps == 1 and "zero" in name:
        pytest.skip("one step from pure noise to the image forgets the noise")
    seed = noise(1)
    theirs = stock(SCHEDULERS[name], steps, seed)
    ours = generate(network, read_schedule(SCHEDULERS[name], steps), seed)
    # dB; sigma = 4096 costs float32 some digits
    assert latent_fidelity(theirs, ours) > (75 if "euler, zero" in name else 90)


@pytest.mark.parametrize("steps", [5, 20])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_and_is_undone(name, steps):
    schedule, image_latents = read_schedule(SCHEDULERS[name], steps), noise(2)
    inversion = invert(network, schedule, image_latents, rtol=1e-4, max_evaluations=100)
    assert all(record.outcome is Outcome.CONVERGED for record in inversion.records)
    assert latent_fidelity(image_latents, generate(network, schedule, inversion.latents)) > 80
    assert latent_fidelity(image_latents, stock(SCHEDULERS[name], steps, inversion.latents)) > 75


@pytest.mark.parametrize("name", ["ddim", "euler, trailing", "dpm++", "dpm++, karras"])
def test_the_seed_of_an_affine_sampler_is_known_in_closed_form(name):
    """An affine denoiser makes the whole way down z_0 = k z_T + c."""
    gaussian, schedule = GaussianDenoiser(), read_schedule(SCHEDULERS[name], 20)

    def denoiser(latents, timestep):
        return gaussian(latents, round(timestep))

    zero = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    c = generate(denoiser, schedule, zero)
    k = generate(denoiser, schedule, zero + 1) - c
    image_latents = noise(3).double()
    inversion = invert(denoiser, schedule, image_latents, rtol=1e-9, max_evaluations=200)
    torch.testing.assert_close(inversion.latents, (image_latents - c) / k, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", ["dpm++", "dpm++, karras"])
def test_a_sampler_with_a_memory_is_undone_where_its_one_step_form_is_far_off(name):
    """20 steps on a denoiser far from affine. From a warm start, as between rounds of boosting, it takes
    less.
    """
    curved, schedule, image_latents = CurvedDenoiser(), read_schedule(SCHEDULERS[name], 20), noise(4)

    def denoiser(latents, timestep):
        return curved(latents, round(timestep))

    inversion = invert(denoiser, schedule, image_latents, rtol=1e-4, max_evaluations=100)
    plain = ddim_inversion(denoiser, schedule, image_latents)
    way_down = latent_fidelity(image_latents, generate(denoiser, schedule, inversion.latents))
    assert way_down > latent_fidelity(image_latents, generate(denoiser, schedule, plain)) + 40
    assert way_down > 80
    nearby = image_latents + 1e-3 * noise(5)
    again = invert(denoiser, schedule, nearby, rtol=1e-4, max_evaluations=100, warm=inversion)
    assert latent_fidelity(nearby, generate(denoiser, schedule, again.latents)) > 80
    assert again.evaluations < inversion.evaluations


@pytest.mark.parametrize("name", ["dpm++", "dpm++, karras", "euler, karras"])
def test_a_batch_is_inverted_as_its_samples_alone(name):
    schedule, effort = read_schedule(SCHEDULERS[name], 8), {"rtol": 1e-6, "max_evaluations": 100}
    image_latents = torch.cat([noise(1), 0.2 * noise(2), 3 * noise(3)]).double()
    rows = []

    def watched(latents, timestep):
        rows.append(len(latents))
        return network(latents, timestep)

    inversions = multistep.invert(watched, schedule, image_latents, Effort(**effort))
    assert sum(rows) == sum(inversion.evaluations for inversion in inversions)
    for inversion, one in zip(inversions, image_latents.split(1), strict=True):
        alone = invert(network, schedule, one, **effort)
        assert [record.evaluations for record in inversion.records] == [
            record.evaluations for record in alone.records
        ]
    back = generate(network, schedule, torch.cat([inversion.latents for inversion in inversions]))
    assert ((back - image_latents).flatten(1).norm(dim=1) < 1e-6 * image_latents.flatten(1).norm(dim=1)).all()


def test_first_and_last_steps_of_dpm_solver_are_of_first_order():
    weights = read_schedule(dpm(), 20).memory.C
    assert weights[0] == weights[-1] == 0
    assert all(weights[1:-1])
    assert read_schedule(dpm(solver_order=1), 20).memory is None


def test_flow_matching_and_euler_are_their_formulas():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    schedule = read_schedule(scheduler, 10)
    scheduler.set_timesteps(10)
    assert schedule.A == [1.0] * 10
    assert pytest.approx(scheduler.sigmas.diff().tolist(), abs=1e-7) == schedule.B
    scheduler = euler()
    schedule = read_schedule(scheduler, 10)
    with quiet():
        scheduler.set_timesteps(10)
    c = (scheduler.sigmas.double() ** 2 + 1) ** -0.5
    assert schedule.scales[0] == pytest.approx((c[0] * scheduler.init_noise_sigma).item())
    assert schedule.A[1:] == pytest.approx((c[2:] / c[1:-1]).tolist(), rel=1e-6)
    assert pytest.approx((c[1:] * scheduler.sigmas.diff()).tolist(), rel=1e-5) == schedule.B


def test_a_grid_that_is_rounded_to_some_timestep_twice_has_a_falling_clock():
    schedule = read_schedule(dpm(use_karras_sigmas=True), 50)
    assert len(set(schedule.timesteps)) < 50
    assert all(later < earlier for earlier, later in zip(schedule.times, schedule.times[1:], strict=False))
    image_latents = noise(2)
    inversion = invert(network, schedule, image_latents, rtol=1e-3)
    assert latent_fidelity(image_latents, generate(network, schedule, inversion.latents)) > 60


def test_the_checkpoint_s_scheduler_names_the_sampler():
    names = {
        PNDMScheduler: "ddim",
        DDIMScheduler: "ddim",
        EulerDiscreteScheduler: "euler",
        DPMSolverMultistepScheduler: "dpm++",
        LCMScheduler: "ddim",
        EulerAncestralDiscreteScheduler: "euler",
    }
    with quiet():
        assert all(pick_sampler("auto", kind()) == name for kind, name in names.items())
    assert pick_sampler("dpm++", ddim()) == "dpm++"


def test_a_scheduler_that_draws_noise_is_replaced_and_that_is_told():
    with quiet():
        scheduler = EulerAncestralDiscreteScheduler(**BETAS)
    told = "the checkpoint's EulerAncestralDiscreteScheduler draws noise at every step; euler takes its place"
    assert replacement("auto", scheduler) == told
    assert replacement("ddim", scheduler) == replacement("auto", ddim()) == ""


@pytest.mark.parametrize(
    ("kind", "instead"),
    [(EulerAncestralDiscreteScheduler, "euler"), (LCMScheduler, "ddim"), (HeunDiscreteScheduler, "dpm++")],
)
def test_the_sampler_in_another_s_place_has_a_whole_grid(kind, instead):
    with quiet():
        scheduler = kind(**BETAS)
    schedule = read_schedule(make_scheduler(instead, scheduler), 4)
    assert min(schedule.timesteps) <= 250 < 700 < max(schedule.timesteps)


def test_a_scheduler_that_cannot_be_inverted_is_refused_by_name_with_one_to_use_instead():
    with quiet():
        scheduler = HeunDiscreteScheduler(**BETAS)
    with pytest.raises(ModelError, match=r"HeunDiscreteScheduler.*--sampler dpm\+\+"):
        pick_sampler("auto", scheduler)


@pytest.mark.parametrize(
    ("sampler", "scheduler", "words"),
    [
        ("ddim", ddim(clip_sample=True), "clip_sample"),
        ("ddim", ddim(thresholding=True), "thresholding"),
        ("dpm++", dpm(thresholding=True), "thresholding"),
        ("dpm++", dpm(algorithm_type="sde-dpmsolver++"), "sde-dpmsolver"),
        ("dpm++", dpm(solver_order=3), "solver_order"),
        ("euler", ddim(prediction_type="sample"), "--sampler ddim"),
        ("ddim", FlowMatchEulerDiscreteScheduler(), "--sampler euler"),
        ("euler", FlowMatchEulerDiscreteScheduler(stochastic_sampling=True), "stochastic_sampling"),
    ],
)
def test_options_that_lose_information_or_draw_noise_are_refused_by_name(sampler, scheduler, words):
    with pytest.raises(ModelError, match=words):
        make_scheduler(sampler, scheduler)


def test_a_step_that_forgets_its_latents_is_refused():
    """With zero terminal SNR, one step is z_0 = -v(z_T): there is nothing to divide by."""
    with pytest.raises(ModelError, match="can't be inverted"):
        read_schedule(ddim(**ZERO_SNR), 1)
