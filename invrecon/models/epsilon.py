"""A network's output as the noise in the latents."""

from torch import Tensor

from invrecon.core.denoiser import ConditionalDenoiser


class Epsilon:
    """eps(z, t, c) of a network, whatever it was trained to predict (a = sqrt(abar_t), s = sqrt(1 - abar_t)):

        epsilon: eps = u        v_prediction: eps = a u + s z        sample: eps = (z - a u) / s

    Args:
        alphas_cumprod: abar, (1000,), all above 0.
        prediction_type: "epsilon", "v_prediction" or "sample".
    """

    def __init__(self, denoiser: ConditionalDenoiser, alphas_cumprod: Tensor, prediction_type: str) -> None:
        self.denoiser = denoiser
        self.alphas_cumprod = alphas_cumprod.tolist()
        self.prediction_type = prediction_type

    def __call__(self, latents: Tensor, timestep: float, condition: Tensor) -> Tensor:
        output = self.denoiser(latents, timestep, condition)
        abar = self.alphas_cumprod[int(timestep)]
        a, s = abar**0.5, (1 - abar) ** 0.5
        if self.prediction_type == "v_prediction":
            return a * output + s * latents
        if self.prediction_type == "sample":
            return (latents - a * output) / s
        return output
