"""A picture there by ours and back by the stock pipeline, which is called as its user would."""

import math
from contextlib import contextmanager

import torch

from invrecon.core.multistep import invert as lead_back
from invrecon.models.quiet import quiet
from invrecon.settings import Effort


def picture(height, width):
    """Pixels (1, 3, H, W) in [-1, 1]: smooth, and in no training set."""
    y, x = torch.meshgrid(torch.linspace(0, 3, height), torch.linspace(0, 3, width), indexing="ij")
    return torch.stack((torch.sin(2 * x), torch.cos(3 * y), torch.sin(x * y)))[None]


@contextmanager
def decoded(pipe):
    """A list that fills with what reaches the autoencoder."""
    seen, decode = [], pipe.vae.decode

    def watch(latents, *args, **options):
        seen.append(latents)
        return decode(latents, *args, **options)

    pipe.vae.decode = watch
    try:
        yield seen
    finally:
        del pipe.vae.decode


def fidelity(one, other):
    return 10 * math.log10(one.square().mean() / (one - other).square().mean().clamp(min=1e-30))


def there_and_back(pipe, model, rtol=1e-4, **options):
    """(dB between what the autoencoder made of a picture and what the stock call gives it back, evaluations a
    step, converged)."""
    call = model.arguments
    pixels = picture(call["height"], call["width"])
    denoiser, schedule = model.denoiser_and_schedule()
    [inversion] = lead_back(denoiser, schedule, model.encode(pixels), Effort(rtol=rtol, **options))
    with quiet(), decoded(pipe) as seen:
        pipe(**model.call(inversion.latents), output_type="pt")
    steps = inversion.records
    return (
        fidelity(model.autoencoder.encode(pixels), seen[-1].float()),
        sum(step.evaluations for step in steps) / len(steps),
        all(step.outcome.solved for step in steps),
    )
