"""`invrecon audit-edit`."""

import json

from PIL import Image
from typer.testing import CliRunner

from invrecon.cli.app import app
from invrecon.models import load_model
from invrecon.settings import EditSettings
from tests import checkpoints


def test_audit_edit_tells_what_became_of_ground_and_object(mini, tmp_path, monkeypatch):
    monkeypatch.setattr("invrecon.models.load_model", lambda *_, **__: mini)
    cutout = Image.new("RGBA", (40, 40))
    cutout.paste((220, 30, 30, 255), (5, 5, 35, 35))
    cutout.save(tmp_path / "red_box.png")
    (tmp_path / "names.toml").write_text('red_box = "red box"')
    common = [
        str(tmp_path / "red_box.png"),
        "--size",
        "64",
        "--steps",
        "3",
        "--rtol",
        "0.1",
        "--sweep",
        "mode=swap",
        "guidance=3",
    ]
    arguments = [
        "audit-edit",
        *common,
        "--names",
        str(tmp_path / "names.toml"),
        "--out",
        str(tmp_path / "out"),
        "--json",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [(row["edit"], row["mask"], row["inversion"]) for row in found["rows"]] == [
        (edit, mask, way)
        for way in ("lbo", "ddim")
        for edit, mask in (
            ("reconstruction", "-"),
            *(
                (EditSettings("", mode="swap", guidance_scale=3.0).label(), mask)
                for mask in ("none", "auto", "drawn")
            ),
        )
    ]
    drawn = next(row for row in found["rows"] if row["mask"] == "drawn")
    assert drawn["worst_outside_loss_db"] == 0
    assert found["trials"][0]["cutout"] == "red box"
    assert not found["trials"][0]["moved"]
    assert found["trials"][0]["halo"] > 0.9  # all of the ring, as nothing was edited
    assert found["rows"][0]["without_halo"] == 0
    assert (tmp_path / "out" / "red_box.png").exists()
    for wrong, code in ((["--to", "mauve"], 2), (["--masks", "bogus"], 2), (["--names", "nosuch.toml"], 2)):
        result = CliRunner().invoke(app, ["audit-edit", *common, *wrong])
        assert (result.exit_code, len(result.stderr.splitlines())) == (code, 1)
    cutout.convert("RGB").save(tmp_path / "opaque.png")
    result = CliRunner().invoke(app, ["audit-edit", str(tmp_path / "opaque.png")])
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)


def test_every_mode_that_a_transformer_can_do_is_tried_and_the_others_are_named(mini, tmp_path, monkeypatch):
    folder = checkpoints.save(tmp_path / "sd3", checkpoints.stable_diffusion_3, mini.pipeline.tokenizer)
    model = load_model(str(folder), device="cpu")
    monkeypatch.setattr("invrecon.models.load_model", lambda *_, **__: model)
    cutout = Image.new("RGBA", (40, 40))
    cutout.paste((220, 30, 30, 255), (5, 5, 35, 35))
    cutout.save(tmp_path / "box.png")
    common = ["audit-edit", str(tmp_path / "box.png"), "--size", "64", "--steps", "3", "--rtol", "0.01"]
    result = CliRunner().invoke(app, [*common, "--no-boost", "--inversions", "lbo", "--json"])
    assert result.exit_code == 0, result.output
    assert [line.split(":")[1] for line in result.stderr.splitlines() if "left out" in line] == [
        " left out"
    ] * 2
    rows = json.loads(result.stdout)["rows"]
    modes = [mode for _ in range(3) for mode in ("swap", "sdedit", "inject", "flowedit")]
    assert [row["edit"].split(",")[0] for row in rows] == ["reconstruction", *modes]
    assert all(row["worst_outside_loss_db"] == 0 for row in rows if row["mask"] == "drawn")
    free = CliRunner().invoke(
        app, [*common, "--sweep", "mode=flowedit", "strength=0.5,1", "--inversions", "lbo", "--json"]
    )
    assert free.exit_code == 0, free.output
    assert len(json.loads(free.stdout)["rows"]) == 7
