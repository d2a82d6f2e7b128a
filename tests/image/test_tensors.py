"""Pictures to tensors and back."""

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from invrecon.errors import InvreconError
from invrecon.image import to_image, to_tensor
from tests.image.files import distance, picture


def test_tensor_round_trip_is_exact_for_every_value():
    image = Image.fromarray(np.arange(768, dtype=np.uint8).reshape(16, 16, 3) ^ np.uint8(85))
    pixels = to_tensor(image)
    assert (pixels.shape, pixels.dtype) == ((1, 3, 16, 16), torch.float32)
    assert (pixels.min(), pixels.max()) == (-1, 1)
    assert distance(to_image(pixels), image) == 0


def test_tensor_axes():
    pixels = to_tensor(picture((20, 10)))
    assert pixels.shape == (1, 3, 10, 20)
    assert (pixels[0, 0].diff(dim=1) > 0).all()
    assert (pixels[0, 1].diff(dim=0) > 0).all()
    assert to_image(pixels).size == (20, 10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_conversions_are_those_of_diffusers(dtype):
    processor = VaeImageProcessor()
    pixels = (torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.8).to(dtype)
    assert distance(to_image(pixels), processor.postprocess(pixels, "pil")[0]) == 0
    assert torch.equal(to_tensor(picture((32, 32))), processor.preprocess(picture((32, 32))))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_raise(value):
    pixels = torch.zeros(1, 3, 4, 4)
    pixels[0, 1, 2, 3] = value
    with pytest.raises(InvreconError, match="finite"):
        to_image(pixels)
