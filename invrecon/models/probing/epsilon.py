"""A network's output as the noise in the latents."""

from typing import Any

from diffusers import DDIMScheduler
from torch import Tensor


def in_epsilon(scheduler: Any) -> bool:
    """Whether it is DDIM and so taken in epsilon form, on which other methods of inversion build; not where a
    noise level of 1 makes that singular."""
    return isinstance(scheduler, DDIMScheduler) and float(scheduler.alphas_cumprod.min()) > 0


def noise_in(scheduler: Any, latents: Tensor, prediction: Tensor, timestep: float) -> Tensor:
    """eps of latents at a timestep. In flow matching the network predicts v = eps - z_0, so eps = z + (1 -
    sigma) v."""
    if hasattr(scheduler, "alphas_cumprod") and not scheduler.config.get("use_flow_sigmas"):
        return prediction
    return latents + (1 - timestep / scheduler.config.num_train_timesteps) * prediction


class ToEpsilon:
    """eps of what a network predicts (a = sqrt(abar_t), s = sqrt(1 - abar_t)):

        v_prediction: eps = a u + s z        sample: eps = (z - a u) / s

    Args:
        alphas_cumprod: abar, (1000,), all above 0.
        prediction_type: "v_prediction" or "sample".
    """

    def __init__(self, alphas_cumprod: Tensor, prediction_type: str) -> None:
        self.alphas_cumprod = alphas_cumprod.tolist()
        self.prediction_type = prediction_type

    def __call__(self, latents: Tensor, timestep: float, output: Tensor) -> Tensor:
        abar = self.alphas_cumprod[int(timestep)]
        a, s = abar**0.5, (1 - abar) ** 0.5
        if self.prediction_type == "v_prediction":
            return a * output + s * latents
        return (latents - a * output) / s
