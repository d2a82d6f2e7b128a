"""Every kind of autoencoder: there by the inverse of what the pipeline hands to the decoder, and back,
differentiably."""

import diffusers
import pytest
import torch

from invrecon.models.probing import PipelineModel
from tests.models.conditioned import CONDITIONED
from tests.models.pipelines import NEW, make
from tests.models.roundtrip import decoded, picture


def tiny():
    widths = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    blocks = {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
    return diffusers.AutoencoderTiny(**widths, **blocks, upsampling_scaling_factor=2)


def asymmetric():
    return diffusers.AsymmetricAutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 2,
        down_block_out_channels=(8, 8),
        up_block_types=["UpDecoderBlock2D"] * 2,
        up_block_out_channels=(16, 16),
        norm_num_groups=4,
        scaling_factor=0.5,
    )


KINDS = {"AutoencoderTiny": tiny, "AsymmetricAutoencoderKL": asymmetric}


def stable_diffusion(vae):
    pipe, call = make(CONDITIONED["sd"])
    pipe.register_modules(vae=vae.eval().requires_grad_(False))
    return pipe, call


def models():
    torch.manual_seed(0)
    yield from (stable_diffusion(make_vae()) for make_vae in KINDS.values())
    yield from (make(NEW[name]) for name in ("qwen", "flux.2", "sana"))


@pytest.mark.parametrize("number", range(5))
def test_encode_and_decode_agree_with_the_stock_pipeline(number):
    pipe, call = list(models())[number]
    model = PipelineModel.from_pipeline(pipe, **call)
    pixels = picture(call["height"], call["width"])
    latents = model.encode(pixels)
    expected = model.autoencoder.encode(pixels)
    forms = model._forms_at(*pixels.shape[-2:])
    torch.testing.assert_close(forms.to_decoder(latents), expected, rtol=1e-4, atol=1e-5)
    with decoded(pipe) as seen:
        images = pipe(**model.call(latents), output_type="pt").images
    with torch.no_grad():
        ours = model.decode(forms.from_decoder(seen[-1]))
    torch.testing.assert_close((ours / 2 + 0.5).clamp(0, 1), images.clamp(0, 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("number", range(5))
def test_decoding_is_differentiable(number):
    pipe, call = list(models())[number]
    model = PipelineModel.from_pipeline(pipe, **call)
    latents = model.encode(picture(call["height"], call["width"])).requires_grad_()
    model.decode(latents).square().sum().backward()
    direction = latents.grad / latents.grad.norm()
    with torch.no_grad():
        ahead, back = (model.decode(latents + sign * 1e-3 * direction).square().sum() for sign in (1, -1))
    torch.testing.assert_close((ahead - back) / 2e-3, latents.grad.norm(), rtol=0.05, atol=0)


def test_sizes_other_than_that_of_the_call_are_read_when_they_come():
    pipe, call = make(NEW["flux.2"])
    model = PipelineModel.from_pipeline(pipe, **call)
    pixels = picture(16, 48)
    latents = model.encode(pixels)
    assert latents.shape[-2:] == (16 // model.downsampling, 48 // model.downsampling)
    assert model.decode(latents).shape == pixels.shape


def test_a_batch_of_pictures_is_encoded_and_decoded():
    pipe, call = make(NEW["qwen"])
    model = PipelineModel.from_pipeline(pipe, **call)
    pixels = torch.cat((picture(32, 32), -picture(32, 32)))
    latents = model.encode(pixels)
    torch.testing.assert_close(latents[1:], model.encode(pixels[1:]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.decode(latents)[1:], model.decode(latents[1:]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "multiple"), [("sd", 8), ("flux.2", 2), ("cogview4", 16), ("z-image", 4)])
def test_what_sizes_must_be_multiples_of_is_found_by_trying(name, multiple):
    pipe, call = make((NEW | CONDITIONED)[name])
    assert PipelineModel.from_pipeline(pipe, **call).multiple == multiple
