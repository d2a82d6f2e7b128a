"""The search for the largest guidance scale: on maps whose border is known, on the bundled model, and from
the command line.
"""

import json
import math
from dataclasses import dataclass, replace

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from invrecon import Settings, find_guidance, reconstruct
from invrecon.cli.app import app
from invrecon.core.denoiser import Counted, Guided
from invrecon.core.guidance import invert_guided, largest_guidance
from invrecon.core.lbo import invert, invert_batch
from invrecon.core.sampling import generate
from invrecon.errors import UsageError
from invrecon.metrics import latent_fidelity
from invrecon.seedfile import load_seed
from invrecon.settings import load_settings
from invrecon.solve import Outcome
from tests.analytic import CurvedDenoiser, ddim_schedule

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


@dataclass
class Attempt:
    scale: float
    holds: bool


@pytest.mark.parametrize("highest", [7.5, 15.0, 30.1])
@pytest.mark.parametrize("border", [1.0, 1.3, 4.0, 7.4])
def test_bisection_finds_the_border_to_its_resolution(border, highest):
    starts = {}

    def attempt(scale, smaller):
        starts[scale] = smaller and smaller.scale
        return Attempt(scale, scale <= border)

    found, tried = largest_guidance(attempt, highest)
    assert found <= border < found + 0.25
    scales = [each.scale for each in tried]
    assert scales == sorted(set(scales))
    assert len(scales) <= 3 + math.log2(highest / 0.25)
    assert starts.pop(1.0) is None
    assert all(start < scale and start <= border for scale, start in starts.items())


def test_a_search_without_a_border_ends_at_once():
    assert largest_guidance(lambda scale, _: Attempt(scale, True), 15) == (
        15,
        [Attempt(1, True), Attempt(15, True)],
    )
    assert largest_guidance(lambda scale, _: Attempt(scale, False), 15) == (1, [Attempt(1, False)])
    assert largest_guidance(lambda scale, _: Attempt(scale, True), 1) == (1, [Attempt(1, True)])


def test_the_search_finds_where_an_affine_map_stops_contracting():
    """eps = w k z, so f(z) = (z_s - B w k z) / A contracts under plain iteration where w < min A / (k
    |B|).
    """
    schedule, k = ddim_schedule(10), 0.5
    border = min(A / (k * abs(B)) for A, B in zip(schedule.A, schedule.B, strict=True) if B)
    latents = torch.randn(1, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    conditions = torch.ones(1, 1, 1, dtype=torch.float64), torch.zeros(1, 1, 1, dtype=torch.float64)

    def attempt(scale, _):
        denoiser = Guided(lambda z, t, condition: k * condition[..., None] * z, *conditions, scale)
        found = invert(denoiser, schedule, latents, solver="picard", max_evaluations=400)
        return Attempt(scale, all(record.outcome is Outcome.CONVERGED for record in found.records))

    found, _ = largest_guidance(attempt, 15)
    assert 2 < border < 15
    assert found <= border < found + 0.25


@pytest.mark.parametrize("solver", ["auto", "anderson"])
def test_a_ramp_is_climbed_where_steps_fail_and_the_better_inversion_is_kept(solver):
    """Guidance 3 is too much for one sample of the two, in so few iterations; in the other, a small one, no
    noise is seen.
    """
    curved, schedule = CurvedDenoiser(), ddim_schedule(10)
    one = torch.ones(1, 1, 1, dtype=torch.float64)

    def seen(z):
        return (torch.linalg.vector_norm(z, dim=(1, 2, 3), keepdim=True) > 1).to(z)

    network = Counted(lambda z, t, condition: curved(z, t) * (0.4 + 0.6 * condition[..., None]) * seen(z))
    denoiser = Guided(network, one, 0 * one, 3.0)
    hard = torch.randn(1, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    latents = torch.cat((hard, 0.001 * hard))
    cold = invert_batch(denoiser, schedule, latents, solver=solver, max_evaluations=15)
    done = [all(record.outcome is Outcome.CONVERGED for record in found.records) for found in cold]
    assert done == [False, True]
    alone = invert_guided(denoiser, schedule, latents[:1], solver=solver, max_evaluations=15)
    network.forward = 0
    both = invert_guided(denoiser, schedule, latents, solver=solver, max_evaluations=15)
    assert torch.equal(both[1].latents, cold[1].latents)
    torch.testing.assert_close(both[0].latents, alone[0].latents)
    fidelity = [
        latent_fidelity(hard, generate(denoiser, schedule, found.latents)) for found in (cold[0], both[0])
    ]
    assert fidelity[1] >= fidelity[0]
    network.forward = 0
    [again] = invert_guided(denoiser, schedule, hard, solver=solver, max_evaluations=15)
    assert sum(record.evaluations for record in again.records) == network.forward
    assert invert_guided(denoiser, schedule, latents[1:], solver=solver)[0].records[0].evaluations < 5


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


def run(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


def test_the_curve_is_in_the_table_the_json_and_the_seed_file(path, tmp_path):
    options = (
        "--guidance-scale",
        "auto",
        "--prompt",
        "a red apple",
        "--size",
        64,
        "--steps",
        5,
        "--max-guidance",
        2,
        "--out",
        tmp_path,
    )
    shown = run("invert", path, *options)
    assert shown.exit_code == 0, shown.output
    assert "guidance 2, the largest allowed, regenerates within 0.1 dB" in shown.stdout
    assert shown.stdout.count(" of 5 ") == 2
    assert "--max-guidance" in shown.stderr
    printed = run("invert", path, *options, "--json", "--force")
    assert printed.exit_code == 0
    row = json.loads(printed.stdout)
    assert row["guidance_scale"] == 2
    assert [probe["guidance_scale"] for probe in row["guidance_curve"]] == [1, 2]
    assert row["guidance_curve"] == load_seed(tmp_path / "photo.seed.safetensors").header["guidance_curve"]


def test_prompts_that_are_alike_are_refused_with_the_cure(path):
    done = run("reconstruct", path, "--guidance-scale", "auto")
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert "--prompt" in done.stderr
    with pytest.raises(UsageError, match="--prompt"):
        Settings(auto_guidance=True, prompt="a", negative_prompt="a")


def test_new_pictures_have_no_best_guidance(path):
    done = run("imagine", path, "--guidance-scale", "auto", "--prompt", "a red apple")
    assert done.exit_code == 2
    assert "--guidance-scale" in done.stderr


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
