"""Half precision that is allowed to fail."""

import math

import pytest
import torch
from torch import Tensor

from invrecon.models.precision import Rescued


def test_half_precision_is_rescued_by_the_sample():
    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float16))

        def forward(self, latents: Tensor, timestep: float, condition: Tensor) -> Tensor:
            return (self.weight * latents.to(self.weight.dtype) / 3 * 30000).float()

    halved = Network()
    rescued = Rescued(halved, halved)
    latents, condition = torch.tensor([0.07313, 20.0, math.nan]).view(3, 1, 1, 1), torch.zeros(3, 1, 1)
    with torch.no_grad():
        half, full, lost = rescued(latents, 7, condition).flatten().tolist()
        assert half == halved(latents[:1], 7, condition).item() != pytest.approx(731.3, rel=1e-6)
        assert full == pytest.approx(200000)
        assert math.isnan(lost)
        assert rescued.rescued == {7}
