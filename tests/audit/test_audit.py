"""The audit: what it runs, that it goes on where it stopped, and that its statistics are what they say."""

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from invrecon.audit.methods.audit import row_key, run_audit
from invrecon.audit.methods.photo import AuditPhoto
from invrecon.audit.methods.plan import METHODS, Plan, Run, Setting, parse_setting
from invrecon.audit.methods.tables import interval, summarise
from invrecon.cli.app import app
from invrecon.core.peers import BY_LEVELS
from invrecon.errors import UsageError
from invrecon.journal import Journal
from invrecon.models import load_model
from invrecon.settings import Settings
from tests import checkpoints

SMALL = Settings(size=64, num_inference_steps=4, boost_rounds=1, decoder_steps=10, rtol=1e-4)
PLAN = Plan(
    methods=("LBO", "DDIM", "EDICT"),
    budgets=(None, 1, 3),
    settings=(Setting(False, 1.0), Setting(True, 3.0)),
    decoder_ceiling=False,
)


@pytest.fixture(scope="module")
def audited(mini, tmp_path_factory):
    """One photo, three methods, two settings, twice: killed in the first go after five runs."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("audit")
    y, x = np.mgrid[0:80, 0:80]
    picture = np.stack((x * 3, y * 3, 120 + 100 * np.sin(x / 7) * np.cos(y / 5)), -1).clip(0, 255)
    photo = folder / "<script>.png"
    Image.fromarray(picture.astype(np.uint8)).save(photo)
    seen = []

    def kill(stage, done, total):
        seen.append(stage)
        if len(seen) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_audit([photo], mini, PLAN, SMALL, folder, kill)
    half = len((folder / "results.jsonl").read_text().splitlines())
    with (folder / "results.jsonl").open("a") as file:
        file.write('{"key": "cut sho')
    journal = run_audit([photo], mini, PLAN, SMALL, folder)
    return folder, photo, half, journal


def test_a_killed_audit_goes_on_where_it_stopped(audited, mini):
    folder, photo, half, _ = audited
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert half == 1 + 5
    assert len(lines) == len({line["key"] for line in lines}) == 1 + len(list(PLAN.runs()))
    before = (folder / "results.jsonl").read_bytes()
    run_audit([photo], mini, PLAN, SMALL, folder)
    assert (folder / "results.jsonl").read_bytes() == before


def rows_of(audited, **wanted):
    return [
        row
        for row in audited[3].rows.values()
        if all(row.get(name) == value for name, value in wanted.items())
    ]


def test_rows_hold_what_each_method_gave_and_cost(audited):
    (ddim,) = rows_of(audited, method="DDIM", budget=None, boosted=False, setting="empty prompt, w = 1")
    (ours,) = rows_of(audited, method="LBO", budget=None, boosted=False, setting="empty prompt, w = 1")
    (edict,) = rows_of(audited, method="EDICT", budget=None, boosted=False, setting="empty prompt, w = 1")
    assert (ddim["forward"], ddim["backward"], ddim["evaluations_per_step"]) == (4, 0, 1.0)
    assert ours["latent_fidelity_db"] > ddim["latent_fidelity_db"] + 10
    assert edict["latent_fidelity_db"] > 80  # exact but for float32
    assert edict["stored_bytes"] == 2 * ours["stored_bytes"]
    assert len(ours["residuals"]) == len(ours["timesteps"]) == 4
    (photo,) = rows_of(audited, kind="photo")
    assert ours["psnr"] == pytest.approx(photo["encoder_ceiling_db"], abs=0.3)


def test_a_budget_is_kept(audited):
    for row in rows_of(audited, budget=3):
        assert row["evaluations_per_step"] <= 3


def test_a_budget_of_one_is_one_evaluation_more_than_there_are_steps(audited):
    for ours in rows_of(audited, budget=1, method="LBO"):
        assert (ours["forward"], ours["steps"]) == (5, 4)
    assert {row["forward"] for row in rows_of(audited, budget=1, method="DDIM")} == {4}


@pytest.mark.parametrize(
    ("run", "name"),
    [
        (Run(Setting(False, 1.0), "LBO", None, boosted=False), "7be5603ca9719832"),
        (Run(Setting(True, 3.0), "GNRI", 5, boosted=False), "90a15b0629c42f47"),
        (Run(Setting(True, 7.5), "LBO", None, boosted=True), "2005d0368bfa39e5"),  # boosting of 0.2.0
    ],
)
def test_keys_stay_so_that_audits_of_earlier_versions_go_on(run, name, tmp_path):
    photo = AuditPhoto(tmp_path / "photo.png", None, "1234abcd", tmp_path)
    assert row_key(run, photo, Settings()) == name


def test_boosted_latents_are_run_in_track_a_only_and_lift_the_picture(audited):
    boosted = rows_of(audited, boosted=True)
    assert {row["method"] for row in boosted} == {"LBO", "DDIM"}
    (plain,) = rows_of(audited, method="LBO", budget=None, boosted=False, setting="empty prompt, w = 1")
    (lifted,) = rows_of(audited, method="LBO", budget=None, boosted=True, setting="empty prompt, w = 1")
    assert lifted["psnr"] > plain["psnr"] + 0.3


def test_the_summary_s_verdicts_follow_from_the_rows(audited):
    summary = summarise(
        list(audited[3].rows.values()), {name: {"track": "A", "note": ""} for name in PLAN.methods}, {}
    )
    tables = {
        (table["setting"], table["budget"], table["boosted"]): table["rows"] for table in summary["tables"]
    }
    assert len(tables) == 2 * (3 + 1)
    ours = next(line for line in tables["empty prompt, w = 1", None, False] if line["method"] == "LBO")
    assert ours["photos"] == 1
    assert ours["interval"] is None
    assert {type(claim["holds"]) for claim in summary["verdict"]} == {bool}


def made_row(method, photo, fidelity, psnr, budget=None, boosted=False, evaluations=2.0):
    return {
        "kind": "run",
        "prompt": "",
        "method": method,
        "photo": photo,
        "setting": "empty prompt, w = 1",
        "guidance_scale": 1.0,
        "budget": budget,
        "boosted": boosted,
        "track": "A",
        "psnr": psnr,
        "ssim": 0.9,
        "lpips": None,
        "latent_fidelity_db": fidelity,
        "steps": 10,
        "evaluations_per_step": evaluations,
        "backward": 0,
        "seconds": 1.0,
        "stored_bytes": 10,
        "diverged_steps": 0,
        "error": None,
    }


@pytest.mark.parametrize(("rival", "holds"), [(50.0, True), (70.0, False)])
def test_a_claim_that_is_not_so_is_said_not_to_hold(rival, holds):
    rows = [
        made_row("LBO", "a", 65.0, 30.0, budget=3),
        made_row("FPI", "a", rival, 29.0, budget=3, evaluations=1.5),
    ]
    verdict = summarise(rows, {"LBO": {}, "FPI": {}}, {})["verdict"]
    by_claim = {claim["claim"][:15]: claim["holds"] for claim in verdict}
    assert by_claim["At w = 1 LBO re"] is holds
    assert by_claim["At equal budget"] is holds


def test_an_interval_holds_the_mean_and_shrinks_with_more_photos():
    random = np.random.default_rng(1)
    few, many = random.normal(1.0, 1.0, 5), random.normal(1.0, 1.0, 500)
    assert interval([1.0, 2.0]) is None
    low, high = interval(list(many))
    assert low < many.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / 500**0.5, rel=0.15)
    assert interval(list(few))[1] - interval(list(few))[0] > high - low


def test_settings_are_read_and_refused_with_the_cure():
    assert parse_setting("caption:7.5") == Setting(True, 7.5)
    assert parse_setting("empty") == Setting(False, 1.0)
    for text in ("caption:x", "photo:1", "empty:0.5", "caption:nan"):
        with pytest.raises(UsageError, match=r"empty:1 or caption:7\.5"):
            parse_setting(text)
    with pytest.raises(UsageError, match="no method NOSUCH"):
        Plan(methods=("NOSUCH",))


def test_every_method_is_in_the_full_matrix():
    runs = list(Plan().runs())
    assert {run.method for run in runs} == set(METHODS)
    assert {run.budget for run in runs} == {None, 1, 2, 3, 5, 10}
    assert len(runs) == len(set(runs))
    assert Run(Setting(True, 7.5), "LBO", None, boosted=True) in runs


def test_a_journal_drops_a_line_that_was_cut_short(tmp_path):
    journal = Journal(tmp_path / "x.jsonl")
    journal.add("a", {"value": 1})
    with journal.path.open("a") as file:
        file.write('{"key": "b", "val')
    again = Journal(journal.path)
    again.add("c", {"value": 3})
    assert [json.loads(line)["key"] for line in journal.path.read_text().splitlines()] == ["a", "c"]


def test_the_command_writes_page_summary_and_rows(mini, photo, tmp_path, monkeypatch):
    monkeypatch.setattr("invrecon.models.load_model", lambda *_, **__: mini)
    (tmp_path / "audit.toml").write_text(
        "size = 64\nnum_inference_steps = 3\nboost_rounds = 1\ndecoder_steps = 10\n"
        '[audit]\nmethods = ["LBO", "DDIM"]\nbudgets = [0]\nsettings = ["empty:1"]\ndecoder_ceiling = false\n'
    )
    arguments = [
        "audit",
        str(photo),
        "--out",
        str(tmp_path / "out"),
        "--config",
        str(tmp_path / "audit.toml"),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "results.jsonl",
        "summary.json",
        "report.html",
    }
    lines = (tmp_path / "out" / "summary.md").read_text().splitlines()
    assert "empty prompt, w = 1, photos: 1" in lines
    assert [line.split(" | ")[0] for line in lines[-2:]] == ["| LBO", "| DDIM"]
    assert "report.html" in result.stdout
    refused = CliRunner().invoke(app, [*arguments, "--methods", "NOSUCH"])
    assert refused.exit_code == 2
    assert "no method NOSUCH" in refused.stderr


def test_a_flow_is_audited_by_the_methods_that_fit_it(mini, photo, tmp_path):
    """Stable Diffusion 3 and Flux have no DDIM steps; their own Euler steps take the place."""
    make = checkpoints.FAMILIES["sd3 without t5"]
    model = load_model(str(checkpoints.save(tmp_path / "flow", make, mini.pipeline.tokenizer)), "cpu")
    methods = tuple(name for name in METHODS if name not in (*BY_LEVELS, "GNRI", "null-text"))
    plan = replace(PLAN, methods=methods, budgets=(None,), settings=(Setting(False, 1.0), Setting(True, 3.0)))
    rows = run_audit([photo], model, plan, SMALL, tmp_path / "out").asked
    runs = {
        (row["method"], row["setting"]): row for row in rows if row["kind"] == "run" and not row["boosted"]
    }
    assert set(runs) == {(name, setting.name) for name in methods for setting in plan.settings}
    for setting in plan.settings:
        fidelity = {name: runs[name, setting.name]["latent_fidelity_db"] for name in methods}
        assert min(fidelity["LBO"], fidelity["EDICT"], fidelity["Direct"]) > 60
        assert fidelity["DDIM"] < fidelity["LBO"]
    with pytest.raises(UsageError, match=r"IFE can't be run on .*; name other --methods"):
        run_audit([photo], model, replace(plan, methods=("LBO", "IFE")), SMALL, tmp_path / "out")


def test_a_summary_is_of_the_runs_that_were_asked_for(audited, mini):
    folder, photo, _, journal = audited
    fewer = replace(PLAN, methods=("LBO",), decoder_ceiling=False)
    asked = run_audit([photo], mini, fewer, SMALL, folder).asked
    assert {row["method"] for row in asked if row["kind"] == "run"} == {"LBO"}
    assert len(asked) < len(journal.rows)
