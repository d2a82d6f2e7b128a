import pytest
import torch

from invrecon.models import load_model

torch.set_num_threads(1)  # workers share the cores, and how many threads there are decides how sums round


@pytest.fixture(scope="session")
def mini():
    return load_model("mini", device="cpu")


@pytest.fixture
def photo(tmp_path):
    """A photo that no model has seen: shapes and gradients, 200 x 160."""
    import numpy as np
    from PIL import Image

    y, x = np.mgrid[0:160, 0:200]
    rgb = np.stack((x / 200, y / 160, 0.5 + 0.4 * np.sin(x / 17) * np.cos(y / 11)), -1)
    rgb[(x - 90) ** 2 + (y - 80) ** 2 < 40**2] = (0.9, 0.2, 0.1)
    path = tmp_path / "photo.png"
    Image.fromarray((rgb * 255).round().astype(np.uint8)).save(path)
    return path
