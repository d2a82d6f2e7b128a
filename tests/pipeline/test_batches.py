"""Photos in a batch come out as they would alone, through the real pipeline."""

import dataclasses

import pytest
from PIL import Image

from invrecon import Settings, invert, invert_batch, reconstruct, reconstruct_batch
from invrecon.errors import InputError, UsageError
from invrecon.metrics import latent_fidelity

QUICK = Settings(size=64, num_inference_steps=5, boost=False)


@pytest.fixture
def photos(photo):
    """Three photos of one shape, the middle one broken."""
    flipped = photo.with_name("flipped.png")
    with Image.open(photo) as image:
        image.transpose(Image.Transpose.ROTATE_180).point(lambda v: 255 - v // 2).save(flipped)
    broken = photo.with_name("broken.png")
    broken.write_bytes(photo.read_bytes()[:300])
    return [photo, broken, flipped]


def test_a_broken_photo_of_a_batch_is_set_aside_and_the_others_have_their_own_seeds(mini, photos):
    seen = []
    first, broken, last = invert_batch(photos, mini, QUICK, lambda *step: seen.append(step))
    assert isinstance(broken, InputError)
    assert "broken.png" in str(broken)
    assert seen == [("inverting", done, 5) for done in range(1, 6)]  # the two share each step
    for one, path in ((first, photos[0]), (last, photos[2])):
        alone = invert(path, mini, QUICK)
        assert one.evaluations == alone.evaluations
        assert one.seed.header["photo"] == alone.seed.header["photo"]
        assert latent_fidelity(alone.seed.latents, one.seed.latents) > 80
    assert first.seconds == last.seconds


def test_photos_of_other_shapes_are_inverted_apart(mini, photos):
    turned = photos[0].with_name("turned.png")
    with Image.open(photos[0]) as image:
        image.transpose(Image.Transpose.ROTATE_90).save(turned)
    seen = []
    wide, tall, flipped = invert_batch(
        [photos[0], turned, photos[2]], mini, QUICK, lambda *step: seen.append(step)
    )
    assert seen == [("inverting", done, 5) for done in range(1, 6)] * 2
    assert wide.seed.latents.shape == flipped.seed.latents.shape == (1, 12, 8, 10)
    assert tall.seed.latents.shape == (1, 12, 10, 8)


def test_boosted_reconstructions_of_a_batch_are_those_of_each_photo(mini, photos):
    settings = dataclasses.replace(
        QUICK, boost=True, boost_rounds=1, decoder_steps=10, prompt="a red apple", guidance_scale=2.0
    )
    good = [photos[0], photos[2]]
    for one, path in zip(reconstruct_batch(good, mini, settings), good, strict=True):
        alone = reconstruct(path, mini, settings)
        assert one.picture.size == alone.picture.size
        for name in ("psnr", "encoder_ceiling_db", "ddim_psnr", "lbo_psnr", "ilb_psnr"):
            assert getattr(one, name) == pytest.approx(getattr(alone, name), abs=0.05)
        assert one.inversion.evaluations == alone.inversion.evaluations


def test_settings_that_fit_no_photo_are_raised(mini, photos):
    with pytest.raises(UsageError):
        invert_batch(photos, mini, dataclasses.replace(QUICK, prompt="apple " * 100))
