"""The search for the largest guidance scale on the bundled model."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from invrecon import Settings, find_guidance, invert, reconstruct
from invrecon.errors import UsageError
from invrecon.settings import load_settings

# So few plain iterations lead back at small guidance only.
HARD = Settings(
    size=64,
    num_inference_steps=4,
    boost=False,
    prompt="a red apple",
    solver="picard",
    max_evaluations=6,
    guidance_loss=2.0,
    max_guidance=8.0,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("guidance") / "photo.png"
    Image.radial_gradient("L").convert("RGB").save(path)
    return path


def test_the_photo_is_reconstructed_at_the_largest_scale_that_was_seen_to_hold(path, mini):
    result = reconstruct(path, mini, replace(HARD, auto_guidance=True))
    search, seed = result.inversion.guidance, result.seed
    assert search.bracketed
    assert search.curve[0].guidance_scale == 1
    held, failed = ([probe for probe in search.curve if probe.holds is each] for each in (True, False))
    assert held + failed == search.curve
    assert held[-1].guidance_scale == search.guidance_scale == seed.header["guidance_scale"]
    assert failed[0].guidance_scale == search.guidance_scale + 0.25
    assert all((probe.psnr >= result.encoder_ceiling_db - 2) is probe.holds for probe in search.curve)
    assert result.psnr == pytest.approx(held[-1].psnr, abs=0.01)
    assert result.latent_fidelity_db == pytest.approx(held[-1].latent_fidelity_db, abs=0.1)
    assert (
        result.inversion.evaluations
        == search.evaluations
        == 4 * sum(probe.evaluations_per_step for probe in search.curve)
    )
    assert seed.header["guidance_curve"] == [vars(probe) for probe in search.curve]


def test_an_end_that_is_no_border_is_told(path, mini):
    top = find_guidance(path, mini, replace(HARD, max_guidance=1.5))
    assert (top.guidance_scale, top.bracketed) == (1.5, False)
    assert "--max-guidance" in top.verdict
    bottom = find_guidance(path, mini, replace(HARD, guidance_loss=0.0))
    assert (bottom.guidance_scale, bottom.bracketed, len(bottom.curve)) == (1.0, False, 1)
    assert "not even guidance 1" in bottom.verdict


def test_ddim_inversion_under_the_scale_that_was_found_is_ddim_inversion(path, mini):
    plain = invert(path, mini, replace(HARD, guidance_scale=1.5), method="ddim")
    searched = invert(path, mini, replace(HARD, auto_guidance=True, max_guidance=1.5), method="ddim")
    assert searched.guidance.guidance_scale == 1.5
    assert torch.equal(searched.seed.latents, plain.seed.latents)
    assert searched.seed.header["steps"] == []
    assert plain.evaluations == 4
    assert searched.evaluations == 4 + searched.guidance.evaluations


def test_presets_and_options_say_auto_and_override_each_other(tmp_path):
    preset = tmp_path / "auto.toml"
    preset.write_text('guidance_scale = "auto"')
    found = load_settings(preset, prompt="a cat")
    assert (found.auto_guidance, found.guidance_scale) == (True, 1.0)
    found = load_settings(preset, guidance_scale=3.0)
    assert (found.auto_guidance, found.guidance_scale) == (False, 3.0)
    preset.write_text("guidance_scale = 3")
    assert load_settings(preset, guidance_scale="auto", prompt="a cat").auto_guidance
    preset.write_text('guidance_scale = "most"')
    with pytest.raises(UsageError, match="guidance_scale"):
        load_settings(preset)
