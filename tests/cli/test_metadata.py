"""Metadata of the pictures that commands write: on a small model, and with --resume."""

import hashlib
import json
from pathlib import Path

import pytest
from PIL import Image

from invrecon.models import load_model
from tests import checkpoints
from tests.cli.fakes import photo, rows, run

FEW = ("--size", "64", "--steps", "2", "--no-boost", "--prompt", "a red apple")


@pytest.fixture
def real(mini, monkeypatch):
    """mini, loaded once for all tests."""
    import invrecon.models

    monkeypatch.setattr(invrecon.models, "load_model", lambda *_, **__: mini)


def told(path) -> dict:
    [row] = rows(run("show", str(path), "--json"))
    return row


def pixels(path) -> bytes:
    with Image.open(path) as opened:
        return opened.tobytes()


def sha256(path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_reconstructions_name_model_prompt_and_seed_file(real):
    assert run("reconstruct", photo("a.png"), *FEW, "--out", "out").exit_code == 0
    seed = "out/a.seed.safetensors"
    picture = told("out/a.recon.png")
    assert (picture["kind"], picture["model"], picture["prompt"]) == ("reconstruction", "mini", "a red apple")
    assert (picture["num_inference_steps"], picture["guidance_scale"]) == (2, 1.0)
    assert picture["seed_sha256"] == sha256(seed) == told(seed)["sha256"]
    assert set(picture["versions"]) >= {"invrecon", "torch", "diffusers"}
    sheet = told("out/a.compare.png")
    assert (sheet["kind"], sheet["prompt"], "seed_sha256" in sheet) == ("comparison", "a red apple", False)
    again = run("reconstruct", seed, "--out", "again")
    assert again.exit_code == 0
    assert told("again/a.recon.png") | {"input": ""} == picture | {"input": ""}


def test_a_person_reads_it_too(real):
    assert run("reconstruct", photo("a.png"), *FEW).exit_code == 0
    shown = run("show", "a.recon.png")
    assert shown.exit_code == 0
    table = dict(line.split(maxsplit=1) for line in shown.stdout.splitlines() if line.startswith("prompt"))
    assert table == {"prompt": "a red apple"}
    assert "seed sha256" in shown.stdout


def test_no_metadata_leaves_the_same_pixels_alone(real):
    for option, out in (("--metadata", "told"), ("--no-metadata", "plain")):
        assert run("reconstruct", photo("a.png"), *FEW, option, "--out", out).exit_code == 0
    for name in ("a.recon.png", "a.compare.png"):
        assert pixels(f"told/{name}") == pixels(f"plain/{name}")
        data = Path("plain", name).read_bytes()
        assert b"iTXt" not in data
        assert b"apple" not in data
    refused = run("show", "plain/a.recon.png")
    assert refused.exit_code == 1
    assert len(refused.stderr.splitlines()) == 1
    assert "--no-metadata" in refused.stderr
    assert Path("plain/a.seed.safetensors").read_bytes() == Path("told/a.seed.safetensors").read_bytes()


def test_boosted_edited_and_imagined_pictures_say_so(real):
    few = FEW[:-3]
    boosting = ("--steps", "2", "--decoder-steps", "1", "--boost-rounds", "1")
    assert run("boost", photo("a.png"), "--size", "64", *boosting).exit_code == 0
    assert told("a.boosted.png")["seed_sha256"] == sha256("a.boosted.seed.safetensors")
    wishes = ("--prompt", "a red apple", "--to", "a blue apple")
    assert run("edit", "a.png", *few, "--no-boost", *wishes).exit_code == 0
    edited = told("a.edit.png")
    assert (edited["kind"], edited["edit"]["to"]) == ("edit", "a blue apple")
    assert edited["seed_sha256"] == sha256("a.edit.seed.safetensors")
    assert told("a.edit.compare.png")["kind"] == "comparison"
    assert run("imagine", "a.png", *few, "-n", "1").exit_code == 0
    assert told("imagine-01.png")["kind"] == "imagined"
    assert told("imagine-01.png")["seed_sha256"] == sha256("imagine-01.seed.safetensors")
    assert run("reconstruct", "imagine-01.seed.safetensors").exit_code == 0
    assert told("imagine-01.recon.png")["kind"] == "imagined"
    for command in (("edit", "a.png", "--no-boost", *wishes), ("imagine", "a.png", "-n", "1")):
        assert run(*command, *few, "--no-metadata", "--out", "plain").exit_code == 0
    assert len(list(Path("plain").glob("*.png"))) == 4
    for path in Path("plain").glob("*.png"):
        assert b"iTXt" not in path.read_bytes()


def test_no_folder_of_the_user_is_named(real, mini, monkeypatch):
    monkeypatch.setattr(mini, "name", "/home/erika/models/mine")
    assert run("reconstruct", photo("erika/a.png"), *FEW).exit_code == 0
    with Image.open("a.recon.png") as opened:
        about = json.loads(opened.text["invrecon"])
        assert b"erika" not in Path("a.recon.png").read_bytes()
    assert about["model"] == "mine"


def test_resume_takes_over_pictures_whatever_they_say(fake):
    arguments = ("reconstruct", photo("a.png"), "--resume", "--json")
    assert run(*arguments).exit_code == 0
    before = Path("a.recon.png").read_bytes()
    [row] = rows(run(*arguments, "--no-metadata"))
    assert row["resumed"]
    assert len(fake.done) == 1
    assert Path("a.recon.png").read_bytes() == before


def test_packed_pictures_say_the_same(fake):
    import tarfile

    assert run("reconstruct", photo("a.png"), "--resume", "--out", "files").exit_code == 0
    assert run("reconstruct", "a.png", "--resume", "--pack", "tar", "--out", "tars").exit_code == 0
    [pack] = Path("tars").glob("*.tar")
    with tarfile.open(pack) as tar:
        [name] = [name for name in tar.getnames() if name.endswith("recon.png")]
        assert tar.extractfile(name).read() == Path("files/a.recon.png").read_bytes()


def test_another_picture_gets_its_line():
    for name, content in (("a.png", None), ("a.jpg", b"\xff\xd8\xff")):
        Path(name).write_bytes(content) if content else photo(name)
        refused = run("show", name)
        assert (refused.exit_code, len(refused.stderr.splitlines())) == (1, 1)
        assert name in refused.stderr


def test_an_edit_without_a_seed_names_model_and_edit(mini, tmp_path, monkeypatch):
    folder = checkpoints.save(tmp_path / "sd3", checkpoints.stable_diffusion_3, mini.pipeline.tokenizer)
    model = load_model(str(folder), device="cpu")
    monkeypatch.setattr("invrecon.models.load_model", lambda *_, **__: model)
    edit = ("--to", "a green apple", "--mode", "flowedit", "--out", "out")
    result = run("edit", photo("a.png"), "--size", "64", "--steps", "2", "--prompt", "a red apple", *edit)
    assert result.exit_code == 0, result.output
    picture = told("out/a.edit.png")
    assert (picture["kind"], picture["model"], picture["prompt"]) == ("edit", "sd3", "a red apple")
    assert (picture["edit"]["to"], picture["edit"]["mode"]) == ("a green apple", "flowedit")
    assert "seed_sha256" not in picture
    assert told("out/a.edit.compare.png")["kind"] == "comparison"
