"""LoRAs and learnt words on the command line."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from invrecon.models import load_model
from invrecon.models.quiet import quiet
from invrecon.seedfile import load_seed
from tests import checkpoints, loras
from tests.cli.fakes import photo, rows, run

COMMANDS = (
    "invert", "reconstruct", "boost", "verify", "edit", "imagine", "speed", "audit", "audit-edit", "ui",
    "models check",
)  # fmt: skip
SMALL = ["--size", "64", "--fit", "crop", "--steps", "3", "--model", "sd"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A checkpoint, a LoRA and a learnt word."""
    root = tmp_path_factory.mktemp("made")
    torch.manual_seed(0)
    checkpoints.save(
        root / "sd", checkpoints.stable_diffusion, load_model("mini", device="cpu").pipeline.tokenizer
    )
    with quiet():
        pipe = load_model(str(root / "sd"), device="cpu").pipeline
    loras.kohya(pipe, root / "hat.safetensors", ["unet", "text_encoder"])
    loras.peft(pipe, root / "other.safetensors", ["unet"])
    save_file({"<toy>": torch.randn(3, 32)}, root / "toy.safetensors")
    return root


@pytest.fixture
def there(made, folder):
    shutil.copytree(made, folder, dirs_exist_ok=True)
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_loads_a_model_takes_them(name):
    text = run(*name.split(), "--help").stdout
    assert "--lora" in text
    assert "--embedding" in text


def test_there_and_back_with_a_lora_and_a_word(there):
    files = ["--lora", "hat.safetensors:0.8", "--embedding", "toy.safetensors"]
    done = run("invert", photo("a.png"), *SMALL, *files, "--prompt", "a <toy>", "--rtol", "1e-4")
    assert done.exit_code == 0, done.stderr
    assert "toy" not in done.stderr
    attachments = load_seed(Path("a.seed.safetensors")).header["identity"]["attachments"]
    assert [(name, one["file"]) for name, one in attachments.items()] == [
        ("embedding 1", "toy.safetensors"),
        ("lora 1", "hat.safetensors"),
    ]
    refused = run("verify", "a.seed.safetensors", "a.png", "--model", "sd")
    assert refused.exit_code == 1
    cure = refused.stderr.rpartition("give ")[2].split()
    assert cure == ["--embedding", "toy.safetensors", "--lora", "hat.safetensors:0.8"]
    checked = run("verify", "a.seed.safetensors", "a.png", "--model", "sd", *cure, "--json")
    assert checked.exit_code == 0
    assert checked.stderr.splitlines() == ["invrecon: toy.safetensors: its word in prompts is <toy>"]
    assert rows(checked)[0]["latent_fidelity_db"] > 60
    assert "hat.safetensors" in run("show", "a.seed.safetensors").stdout


def test_a_result_of_another_lora_is_not_done(there):
    resumed = ["invert", photo("a.png"), *SMALL, "--resume", "--lora"]
    assert run(*resumed, "hat.safetensors").exit_code == 0
    assert run(*resumed, "hat.safetensors").exit_code == 0
    for other in ("hat.safetensors:0.5", "other.safetensors"):
        refused = run(*resumed, other)
        assert refused.exit_code == 1
        assert "exists; overwrite it with --force" in refused.stderr
    save_file({name: 1.01 * value for name, value in load_file("hat.safetensors").items()}, "hat.safetensors")
    assert run(*resumed, "hat.safetensors").exit_code == 1


@pytest.mark.parametrize(
    "given",
    [
        ["--lora", "toy.safetensors"],
        ["--lora", "nosuch.safetensors"],
        ["--lora", "hat.safetensors:nan"],
        ["--lora", "hat.safetensors", "--lora", "hat.safetensors:2"],
        ["--embedding", "hat.safetensors"],
        ["--embedding", "word.pt"],
    ],
)
def test_what_can_t_be_loaded_is_one_line_and_nothing_is_written(there, given):
    before = sorted(there.iterdir())
    for command in (["invert", photo("a.png")], ["models", "check"]):
        model = SMALL if command[0] == "invert" else ["sd"]
        refused = run(*command, *model, *given)
        assert refused.exit_code == 2
        assert len(refused.stderr.splitlines()) == 1
    assert sorted(there.iterdir()) == sorted([*before, there / "a.png"])


def test_a_preset_lists_them(there):
    Path("p.toml").write_text('lora = ["hat.safetensors:0.8"]\nembedding = ["toy.safetensors"]\n')
    done = run("invert", photo("a.png"), *SMALL, "--config", "p.toml")
    assert done.exit_code == 0
    assert len(load_seed(Path("a.seed.safetensors")).header["identity"]["attachments"]) == 2
    Path("p.toml").write_text('lora = "hat.safetensors"\n')
    refused = run("invert", photo("b.png"), *SMALL, "--config", "p.toml")
    assert refused.exit_code == 2
    assert "lora must be a list of texts" in refused.stderr
