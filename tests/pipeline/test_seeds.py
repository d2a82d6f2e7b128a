"""A seed under a model that isn't quite what it was made with: refused in a line that names what differs."""

import dataclasses

import pytest

from invrecon import EditSettings, Settings, boost, edit, invert, load_model, reconstruct, verify
from invrecon.errors import InputError
from invrecon.models import model_folder, tiling
from invrecon.pipeline import find_reference
from invrecon.seedfile import load_seed, save_seed
from tests.models.weights import configure, copy, rewrite

QUICK = Settings(size=64, num_inference_steps=3, boost=False)
EVERYTHING = {
    "reconstruct": lambda seed, photo, model: reconstruct(seed, model),
    "boost": lambda seed, photo, model: boost(seed, model, QUICK, photo=photo),
    "edit": lambda seed, photo, model: edit(seed, model, EditSettings(to="a pear")),
    "imagine": lambda seed, photo, model: find_reference(seed, model),
    "verify": lambda seed, photo, model: verify(seed, photo, model),
}


@pytest.fixture
def seed(mini, photo, tmp_path):
    path = tmp_path / "x.seed.safetensors"
    save_seed(invert(photo, mini, QUICK).seed, path)
    return path


def changed(path, **header):
    """A seed file with another header; ... takes a field out."""
    seed = load_seed(path)
    kept = {name: value for name, value in (seed.header | header).items() if value is not ...}
    save_seed(dataclasses.replace(seed, header=kept), path)
    return path


@pytest.fixture
def folder(tmp_path):
    return copy(model_folder("mini"), tmp_path / "m")


@pytest.mark.parametrize("work", EVERYTHING)
def test_another_setting_of_the_model_is_named_with_its_value_then_and_now(seed, photo, folder, work):
    configure(folder / "scheduler" / "scheduler_config.json", prediction_type="epsilon")
    with pytest.raises(InputError) as caught:
        EVERYTHING[work](seed, photo, load_model(str(folder), device="cpu"))
    assert str(caught.value) == (
        f"{seed}: made with scheduler.prediction_type v_prediction, and the model has epsilon now: "
        "set it back, or name the seed's model with --model"
    )


def test_more_differences_are_counted(seed, photo, folder):
    configure(folder / "vae" / "config.json", scaling_factor=0.5)
    configure(folder / "scheduler" / "scheduler_config.json", prediction_type="epsilon")
    with pytest.raises(InputError, match=r"epsilon now \(1 more differs\): set it back"):
        reconstruct(seed, load_model(str(folder), device="cpu"))


def test_other_weights_are_named_by_their_part(seed, photo, folder):
    rewrite(folder / "vae", lambda weights: {name: value * 1.01 for name, value in weights.items()})
    with pytest.raises(InputError, match=r"other weights .* has in vae \(\w{8}, now \w{8}\); name"):
        verify(seed, photo, load_model(str(folder), device="cpu"))


def test_a_copy_of_the_model_will_do(seed, folder):
    assert reconstruct(seed, load_model(str(folder), device="cpu")).advice is None


def test_coefficients_that_the_scheduler_no_longer_has_are_refused(seed, mini):
    schedule = load_seed(seed).header["schedule"]
    assert schedule["prediction"] == "epsilon"
    assert schedule["A"] == mini.schedule(load_seed(seed).recipe).A
    rounded = [value * (1 + 1e-6) for value in schedule["A"]]
    assert reconstruct(changed(seed, schedule=schedule | {"A": rounded}), mini)
    other = [value * 1.01 for value in schedule["A"]]
    with pytest.raises(InputError, match=r"made with coefficient A .* at step 0, and the scheduler has"):
        reconstruct(changed(seed, schedule=schedule | {"A": other}), mini)
    with pytest.raises(InputError, match=r"made with coefficient B nan at step 2"):
        reconstruct(changed(seed, schedule=schedule | {"B": schedule["B"][:2]}), mini)


def test_the_memory_of_a_multistep_sampler_is_kept_and_checked(mini, photo, seed):
    found = invert(photo, mini, dataclasses.replace(QUICK, sampler="dpm++")).seed
    memory = found.header["schedule"]["memory"]
    assert memory["C"] == list(mini.schedule(found.recipe).memory.C)
    memory["C"][-1] += 0.1
    save_seed(found, seed)
    with pytest.raises(InputError, match="coefficient C"):
        reconstruct(seed, mini)


def test_settings_that_another_version_of_diffusers_knew_are_left_out_of_account(seed, mini):
    header = load_seed(seed).header
    header["identity"]["configuration"]["scheduler"]["a_later_option"] = "on"
    versions = header["versions"] | {"diffusers": "0.99"}
    assert reconstruct(changed(seed, identity=header["identity"], versions=versions), mini).advice is None
    with pytest.raises(InputError, match=r"scheduler\.a_later_option on, and the model has unset now"):
        reconstruct(changed(seed, versions=header["versions"]), mini)


@pytest.mark.parametrize("work", EVERYTHING)
def test_what_an_earlier_file_does_not_hold_is_told_once_and_no_error(seed, photo, mini, work):
    old = changed(seed, format=1, size=64, schedule=..., identity=..., tiling=..., guidance_argument=...)
    result = EVERYTHING[work](old, photo, mini)
    told = "made by an earlier invrecon, which didn't note identity, schedule, tiling: these are not checked"
    assert result.advice.count(told) == 1


def test_half_precision_is_in_the_header_and_told_where_it_is_not_what_regenerates(photo, mini, tmp_path):
    half = load_model("mini", device="cpu", dtype="bfloat16")
    found = invert(photo, half, dataclasses.replace(QUICK, num_inference_steps=20)).seed
    assert found.header["dtype"] == "bfloat16"  # the model's, whatever the settings say
    path = tmp_path / "x.seed.safetensors"
    save_seed(found, path)
    own, other = reconstruct(path, half), reconstruct(path, mini)
    assert own.advice is None
    assert other.advice == "found in bfloat16, regenerated in float32: expect less"
    assert own.latent_fidelity_db > other.latent_fidelity_db
    assert find_reference(path, mini).advice == other.advice
    verified = verify(path, photo, mini)
    assert verified.advice.startswith(other.advice + "; stock diffusers is asked in float32")
    rounded = verify(path, photo, half, dtype="bfloat16")
    assert rounded.advice.startswith("stock diffusers rounds the latents to bfloat16 after each step")
    assert rounded.latent_fidelity_db < verified.latent_fidelity_db
    assert verify(path, photo, mini, dtype="bfloat16").advice == rounded.advice
    steps = [step | {"float32": True} for step in found.header["steps"]]
    assert "20 steps were found in float32" in verify(changed(path, steps=steps), photo, mini).advice


def test_tiles_are_told_and_noted(photo, mini, tmp_path, monkeypatch):
    monkeypatch.setattr(tiling, "free_memory", lambda _: 0.0)
    cut = load_model("mini", device="cpu", tiling=True)
    settings = dataclasses.replace(QUICK, size="320x256", fit="stretch", num_inference_steps=1)
    result = reconstruct(photo, cut, settings)
    assert (result.tiling, result.seed.header["tiling"]) == (True, True)
    assert "works in tiles (--tiling)" in result.advice
    path = tmp_path / "x.seed.safetensors"
    save_seed(result.seed, path)
    assert "works in tiles (--tiling)" in reconstruct(path, cut).advice
    assert "works in tiles (--tiling)" in find_reference(path, cut).advice
    whole = reconstruct(path, mini)
    assert whole.advice == "the photo was encoded in tiles, and is decoded as a whole: expect less"
    assert whole.tiling is False


def test_verification_tells_the_photo_s_own_psnr(seed, photo, mini):
    verified, found = verify(seed, photo, mini), reconstruct(photo, mini, QUICK)
    assert verified.psnr_photo == pytest.approx(found.psnr_photo, abs=0.05)
    assert verified.subject.canvas == found.inversion.subject.canvas
