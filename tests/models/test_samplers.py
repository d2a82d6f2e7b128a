"""Every sampler takes the steps of diffusers' own scheduler, and is undone exactly."""

import re
from types import SimpleNamespace

import diffusers
import pytest
import torch
from diffusers import (
    CMStochasticIterativeScheduler,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    TCDScheduler,
    UnCLIPScheduler,
)

from invrecon.core import multistep
from invrecon.core.lbo import Inversion
from invrecon.core.sampling import ddim_inversion, generate
from invrecon.errors import ModelError
from invrecon.metrics import latent_fidelity
from invrecon.models.probing.steps import read_steps
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


KINDS = sorted(name for name in dir(diffusers) if re.fullmatch(r"\w+(?<!Flax)Scheduler", name))


@pytest.mark.parametrize("name", KINDS)
def test_whatever_is_advised_in_place_of_a_scheduler_has_its_noise_schedule(name):
    """Each of diffusers', with the values of its own that no configuration holds."""
    try:
        with quiet():
            scheduler = getattr(diffusers, name)()
    except (TypeError, ImportError):
        pytest.skip("needs arguments or a package")
    betas = getattr(scheduler, "alphas_cumprod", None)
    try:
        sampler, advice = pick_sampler("auto", scheduler), ""
    except ModelError as error:
        sampler, advice = "", str(error)
    if advice.endswith("name another checkpoint with --model"):
        return
    sampler = sampler or re.search(r"use --sampler (\S+)$", advice)[1]
    if sampler == "ddim" and scheduler.config.get("clip_sample"):
        pytest.skip("clips, which has a test of its own")
    made = make_scheduler(sampler, scheduler)
    if betas is None:
        assert type(made) is FlowMatchEulerDiscreteScheduler
        assert made.config.shift == scheduler.config.shift
    else:
        torch.testing.assert_close(made.alphas_cumprod, betas, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [HeunDiscreteScheduler, LCMScheduler, TCDScheduler])
@pytest.mark.parametrize("sampler", ["ddim", "euler", "dpm++"])
def test_a_noise_schedule_of_another_class_s_defaults_is_handed_over(kind, sampler):
    """Theirs begin at 0.00085, and those of all three samplers at 0.0001."""
    with quiet():
        made = make_scheduler(sampler, kind())
    assert (made.config.beta_start, made.config.beta_end) == (0.00085, 0.012)


@pytest.mark.parametrize("sampler", ["ddim", "euler", "dpm++"])
def test_a_noise_schedule_that_a_sampler_cannot_have_is_never_made_up(sampler):
    for scheduler in (EDMEulerScheduler(), diffusers.CogVideoXDDIMScheduler(clip_sample=False)):
        with pytest.raises(ModelError, match=r"can't have the noise schedule.*name another checkpoint"):
            make_scheduler(sampler, scheduler)
    with pytest.raises(ModelError, match=r"EDMEulerScheduler is not among.*name another checkpoint"):
        pick_sampler("auto", EDMEulerScheduler())
    cosine = make_scheduler("dpm++", UnCLIPScheduler())
    assert cosine.config.beta_schedule == "squaredcos_cap_v2"


@pytest.mark.parametrize("sampler", ["ddim", "dpm++"])
def test_noise_levels_that_the_network_is_told_otherwise_are_not_made_steps(sampler):
    """EDM's way of v prediction: t is log(sigma) / 4."""
    continuous = EulerDiscreteScheduler(
        timestep_type="continuous", sigma_min=0.002, sigma_max=120.0, prediction_type="v_prediction"
    )
    with pytest.raises(ModelError, match=r"timestep_type continuous\): use --sampler auto"):
        make_scheduler(sampler, continuous)
    cured = make_scheduler(pick_sampler("auto", continuous), continuous)
    assert cured.config.timestep_type == "continuous"


def set_to(**cure):
    return lambda scheduler: type(scheduler).from_config(scheduler.config, **cure)


@pytest.mark.parametrize(
    ("sampler", "scheduler", "words", "cure"),
    [
        ("ddim", ddim(clip_sample=True), "clip_sample.* to false", set_to(clip_sample=False)),
        ("ddim", ddim(thresholding=True), "thresholding.* to false", set_to(thresholding=False)),
        ("dpm++", dpm(thresholding=True), "thresholding.* to false", set_to(thresholding=False)),
        (
            "dpm++",
            dpm(algorithm_type="sde-dpmsolver++"),
            r"sde-dpmsolver.* set it to dpmsolver\+\+",
            set_to(algorithm_type="dpmsolver++"),
        ),
        ("dpm++", dpm(solver_order=3), "solver_order.* set it to 2", set_to(solver_order=2)),
        ("euler", ddim(prediction_type="sample", set_alpha_to_one=False), "--sampler ddim", "ddim"),
        ("ddim", FlowMatchEulerDiscreteScheduler(), "--sampler euler", "euler"),
        (
            "euler",
            FlowMatchEulerDiscreteScheduler(stochastic_sampling=True),
            "stochastic_sampling.* to false",
            set_to(stochastic_sampling=False),
        ),
    ],
)
def test_options_that_lose_information_or_draw_noise_are_refused_with_a_cure(sampler, scheduler, words, cure):
    with pytest.raises(ModelError, match=words):
        make_scheduler(sampler, scheduler)
    cured = (
        make_scheduler(cure, scheduler) if isinstance(cure, str) else make_scheduler(sampler, cure(scheduler))
    )
    assert len(read_schedule(cured, 5).A) == 5


def test_a_step_that_forgets_its_latents_is_refused():
    """With zero terminal SNR, one step is z_0 = -v(z_T): there is nothing to divide by; nor has the last
    step to a sample that is predicted.
    """
    with pytest.raises(ModelError, match=r"can't be inverted.*: take more steps"):
        read_schedule(ddim(**ZERO_SNR), 1)
    assert len(read_schedule(ddim(**ZERO_SNR), 2).A) == 2
    with pytest.raises(
        ModelError, match=r"can't be inverted.*: set set_alpha_to_one to false in scheduler_config"
    ):
        read_schedule(ddim(prediction_type="sample"), 5)
    assert len(read_schedule(ddim(prediction_type="sample", set_alpha_to_one=False), 5).A) == 5


@pytest.mark.parametrize(
    "kind",
    [LCMScheduler, HeunDiscreteScheduler, EulerAncestralDiscreteScheduler, CMStochasticIterativeScheduler],
)
def test_a_live_pipeline_s_scheduler_is_advised_with_its_noise_schedule(kind):
    with quiet():
        scheduler = kind(clip_sample=False) if kind is LCMScheduler else kind()
        scheduler.set_timesteps(4)
        with pytest.raises(ModelError) as caught:
            read_steps(scheduler, {})
        if kind is CMStochasticIterativeScheduler:
            assert str(caught.value).endswith("name a pipeline with another scheduler")
            return
        pipe = SimpleNamespace(scheduler=scheduler)
        cured = eval(str(caught.value).rpartition("pipe.scheduler = ")[2], vars(diffusers), {"pipe": pipe})
    torch.testing.assert_close(cured.alphas_cumprod, scheduler.alphas_cumprod, rtol=0, atol=1e-6)
