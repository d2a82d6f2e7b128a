"""Networks, guidance and round trips for the tests of peers."""

import torch

from invrecon.core.peers import make_peer
from invrecon.core.schedule import Schedule
from tests.analytic import Guided


class Network:
    """eps(z, t, c) = eps(z, t) + c / 10, with c of a latent's shape.

    Counts evaluations by timestep, a backward pass as two.
    """

    def __init__(self, denoiser):
        self.denoiser = denoiser
        self.evaluations = {}

    def __call__(self, latents, timestep, condition):
        self._count(timestep, 1)
        noise = self.denoiser(latents, timestep) + condition.view_as(latents).to(latents.dtype) / 10
        if noise.requires_grad:
            noise.register_hook(lambda gradient: self._count(timestep, 2))
        return noise

    def _count(self, timestep, evaluations):
        self.evaluations[timestep] = self.evaluations.get(timestep, 0) + evaluations


def guide(denoiser, scale=1.0, condition=0.0):
    """Guidance around an analytic denoiser; the condition pulls each latent its own way."""
    pull = condition * torch.linspace(-1, 1, 256, dtype=torch.float64).view(1, 4, 64)
    return Guided(Network(denoiser), pull, torch.zeros_like(pull), scale)


def part(schedule, start, stop=None):
    return Schedule(*(list(values)[start:stop] for values in (schedule.timesteps, schedule.A, schedule.B)))


def seed(name, evaluations, guided, schedule, image_latents):
    return make_peer(name, evaluations).invert(guided, schedule, image_latents).latents


def round_trip(name, evaluations, guided, schedule, image_latents):
    peer = make_peer(name, evaluations)
    return peer.generate(guided, schedule, peer.invert(guided, schedule, image_latents))
