"""Stable Diffusion, SDXL, LCM, Turbo, SD 3 and Flux, with their text encoders, under all that their networks
may predict."""

from functools import cache, partial

from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

from invrecon.models import load_model
from tests import checkpoints

ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
PROMPTS = {"prompt": "a red apple", "negative_prompt": "blue", "height": 64, "width": 64}


@cache
def tokenizer():
    return load_model("mini", device="cpu").pipeline.tokenizer


def ddim(**options):
    return DDIMScheduler(**checkpoints.BETAS | options, clip_sample=False, set_alpha_to_one=False)


def euler(**options):
    return EulerDiscreteScheduler(**checkpoints.BETAS | options)


def dpm(**options):
    return DPMSolverMultistepScheduler(**checkpoints.BETAS | options)


def pipeline(function, scheduler=None, negative=True, **options):
    pipe = function(tokenizer(), **options)
    if scheduler:
        pipe.scheduler = scheduler
    network = pipe.components.get("unet") or pipe.transformer
    call = (
        PROMPTS if negative else {name: value for name, value in PROMPTS.items() if name != "negative_prompt"}
    )
    return pipe, call, network.conv_out if hasattr(network, "conv_out") else network.proj_out


def entry(function, scheduler=None, usual=7.5, none=1.0, **options):
    return (
        partial(pipeline, function, scheduler, **options),
        1.0,
        {"guidance_scale": usual},
        {"guidance_scale": none},
    )


SD, XL = checkpoints.stable_diffusion, checkpoints.stable_diffusion_xl
CLASSIC = {
    "sd": entry(SD),
    "sd v": entry(SD, ddim(prediction_type="v_prediction")),
    "sd sample": entry(SD, ddim(prediction_type="sample")),
    "sd zero snr": entry(SD, ddim(prediction_type="v_prediction", **ZERO_SNR)),
    "sd euler": entry(SD, euler()),
    "sd euler v": entry(SD, euler(prediction_type="v_prediction")),
    "sd karras": entry(SD, euler(use_karras_sigmas=True)),
    "sd dpm++": entry(SD, dpm()),
    "sdxl": entry(XL, usual=5.0),
    "sdxl v": entry(XL, ddim(prediction_type="v_prediction"), usual=5.0),
    "sdxl zero snr": entry(XL, euler(prediction_type="v_prediction", **ZERO_SNR), usual=5.0),
    "lcm": entry(checkpoints.lcm, ddim(timestep_spacing="trailing"), usual=8.0),
    "turbo": entry(XL, euler(timestep_spacing="trailing"), usual=0.0),
    "sd 3": entry(checkpoints.stable_diffusion_3, usual=7.0),
    "sd 3 shifted by size": entry(checkpoints.stable_diffusion_3, usual=7.0, use_dynamic_shifting=True),
    "flux dev": entry(checkpoints.flux, usual=3.5, negative=False),
    "flux schnell": entry(checkpoints.flux, usual=0.0, negative=False, dev=False),
}
