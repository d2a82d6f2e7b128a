import pytest
import torch


@pytest.fixture
def image_latents():
    return torch.randn(1, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
