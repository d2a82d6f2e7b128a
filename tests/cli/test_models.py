"""`invrecon models`."""

from dataclasses import dataclass
from pathlib import Path

from invrecon.errors import ModelError
from tests.cli.fakes import run


@dataclass
class Found:
    """What a check says."""

    latent_fidelity_db: float = 60.0
    converged_steps: int = 2


def test_models_prints_names_and_folders(monkeypatch):
    import invrecon.models

    def folder(name, revision, variant, base):
        if name != "mini":
            raise ModelError(f"no model {name!r}")
        return Path("/some/mini")

    monkeypatch.setattr(invrecon.models, "model_folder", folder)
    listed = [line.split()[0] for line in run("models", "list").stdout.splitlines()]
    assert listed[0] == "mini"
    assert {"sd15", "sdxl", "sdxl-turbo", "sd35-medium", "flux-dev"} <= set(listed)
    assert run("models", "path", "mini").stdout == "/some/mini\n"
    unknown = run("models", "path", "nosuch")
    assert (unknown.exit_code, unknown.stdout, unknown.stderr) == (2, "", "invrecon: no model 'nosuch'\n")


def test_path_and_check_take_all_that_locates_a_checkpoint(monkeypatch, fake):
    import invrecon.models
    import invrecon.pipeline.checkup

    asked = []
    monkeypatch.setattr(invrecon.models, "model_folder", lambda *where: (asked.append(where), Path("/x"))[1])
    where = ["--revision", "main", "--variant", "fp16", "--base", "base"]
    assert run("models", "path", "a/b", *where).stdout == "/x\n"
    assert asked == [("a/b", "main", "fp16", "base")]
    monkeypatch.setattr(invrecon.pipeline.checkup, "check", lambda model, settings: Found())
    assert run("models", "check", "a/b", *where).exit_code == 0
    assert fake.loaded == [("a/b", "auto", "auto")]
    assert [fake.places[name] for name in ("revision", "variant", "base")] == ["main", "fp16", "base"]


def test_a_card_s_settings_count_where_its_name_is_an_argument(monkeypatch, fake):
    import invrecon.pipeline.checkup

    asked = []
    monkeypatch.setattr(
        invrecon.pipeline.checkup, "check", lambda model, settings: (asked.append(settings), Found())[1]
    )
    assert run("models", "check", "sdxl-turbo").exit_code == 0
    assert (asked[0].model, asked[0].num_inference_steps) == ("sdxl-turbo", 4)
