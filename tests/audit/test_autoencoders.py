"""Autoencoders by themselves: their latents are a model's own, and the audit's figures are what they say."""

import json
import re

import diffusers
import pytest
import torch
from typer.testing import CliRunner

from invrecon.audit.autoencoders import measurement, tabulate
from invrecon.cli.app import app
from invrecon.errors import ModelError
from invrecon.models import model_folder
from invrecon.models.latent_space import load_autoencoder
from tests.browser import open_browser

SIZES = ["--size", "64", "--fit", "crop", "--decoder-steps", "10"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(measurement, "CEILING_PASSES", 30)


def test_latents_are_those_of_the_model_that_the_autoencoder_belongs_to(mini):
    space = load_autoencoder(model_folder("mini"), "cpu")
    pixels = torch.rand(1, 3, 64, 64) * 2 - 1
    latents = mini.encode(pixels)
    assert torch.allclose(space.encode(pixels), latents, atol=1e-5)
    assert torch.allclose(space.decode(latents), mini.decode(latents), atol=1e-5)
    assert space.multiple == 8


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"scaling_factor": 1.5, "shift_factor": 0.25}, lambda z: 1.5 * (z - 0.25)),
        (
            {"scaling_factor": 2.0, "latents_mean": [0.5, -0.5], "latents_std": [2.0, 4.0]},
            lambda z: (
                2 * (z - torch.tensor([0.5, -0.5]).view(2, 1, 1)) / torch.tensor([2.0, 4.0]).view(2, 1, 1)
            ),
        ),
    ],
)
def test_latents_are_scaled_as_the_configuration_says(config, expected, tmp_path):
    torch.manual_seed(0)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8,), latent_channels=2, norm_num_groups=4, layers_per_block=1, **config
    )
    vae.save_pretrained(tmp_path)
    space, pixels = load_autoencoder(tmp_path, "cpu"), torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        raw = vae.encode(pixels).latent_dist.mode()
        decoded = vae.decode(raw).sample
    assert torch.allclose(space.encode(pixels), expected(raw), atol=1e-5)
    assert torch.allclose(space.decode(expected(raw)), decoded, atol=1e-4)


def test_what_is_no_autoencoder_is_refused_in_one_line(tmp_path):
    with pytest.raises(ModelError, match=r"no autoencoder at .*: name a folder with its config\.json"):
        load_autoencoder(tmp_path, "cpu")
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(ModelError, match="has no weights in safetensors"):
        load_autoencoder(tmp_path, "cpu")


@pytest.fixture
def measured(photo, tmp_path):
    """The audit of one photo in mini's own latent space, by the command."""
    out = tmp_path / "audit"
    command = ["audit", str(photo), *SIZES, "--methods", "none", "--autoencoder", str(model_folder("mini"))]
    result = CliRunner().invoke(app, [*command, "--out", str(out)])
    assert result.exit_code == 0, result.output
    return out, command, result.output


def test_the_command_measures_boosting_between_its_two_ceilings(measured):
    out, command, output = measured
    [row] = map(json.loads, (out / "results.jsonl").read_text().splitlines())
    assert row["encoder_ceiling_db"] < row["boosted_db"] < row["decoder_ceiling_db"]
    gain, gap = (row[name] - row["encoder_ceiling_db"] for name in ("boosted_db", "decoder_ceiling_db"))
    assert row["share"] == pytest.approx(gain / gap)
    assert row["without_proximal_db"] < row["decoder_ceiling_db"]
    assert 0 < row["distance"] < row["ceiling_distance"]
    assert (row["decoder_steps"], row["ceiling_steps"]) == (10, 30)
    [line] = json.loads((out / "summary.json").read_text())["autoencoders"]
    assert line["percent"] == pytest.approx(100 * row["share"])
    assert f"{line['boosted_db']:.2f}" in output
    assert f"| {line['boosted_db']:.2f} |" in (out / "summary.md").read_text()
    before = (out / "results.jsonl").read_bytes()
    assert CliRunner().invoke(app, [*command, "--out", str(out)]).exit_code == 0
    assert (out / "results.jsonl").read_bytes() == before


def test_nothing_to_measure_is_told_with_its_cure(photo, tmp_path):
    result = CliRunner().invoke(app, ["audit", str(photo), "--methods", "none", "--out", str(tmp_path / "a")])
    assert result.exit_code == 2
    assert "name --methods, or an --autoencoder" in result.stderr


def test_the_page_of_autoencoders_alone_shows_pictures_on_a_phone(measured):
    text = (measured[0] / "report.html").read_text()
    assert "<!-- " not in text
    assert not re.search(r"<script|id=\"results\"", text)
    with open_browser({"browser": "ALL"}) as browser:
        screen = {"width": 320, "height": 800, "deviceScaleFactor": 2, "mobile": True}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        browser.get((measured[0] / "report.html").as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") == 320
        widths = browser.execute_script("return [...document.images].map(image => image.naturalWidth)")
        assert widths == [64] * 4
        assert browser.get_log("browser") == []


def test_lines_are_medians_and_name_the_worst_photo():
    common = {"autoencoder": "a", "without_proximal_db": 31.0, "decoder_steps": 60, "ceiling_distance": 0.3}
    shares = [0.9, 0.5, None]  # the last photo's autoencoder is the best that there is
    rows = [
        common
        | {"share": share, "encoder_ceiling_db": 25.0, "decoder_ceiling_db": 32.0, "boosted_db": 30.0 + k}
        | {"distance": 0.1 * k}
        for k, share in enumerate(shares)
    ]
    [line] = tabulate(rows)
    assert (line["percent"], line["worst_percent"], line["photos"]) == (70, 50, 3)
    assert (line["boosted_db"], line["proximal_cost_db"], line["percent_moved"]) == (31, 0, 10)
