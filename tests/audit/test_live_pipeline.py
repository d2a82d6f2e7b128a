"""The audit's methods on a pipeline as its user loaded it: they get what a checkpoint's model gives them."""

import json
from dataclasses import replace

import pytest

from invrecon import Model, Settings
from invrecon.audit.methods.audit import run_audit
from invrecon.audit.methods.plan import METHODS, Plan, Setting
from invrecon.errors import UsageError
from tests.models.classic import CLASSIC
from tests.models.pipelines import make

PLAN = Plan(budgets=(3,), settings=(Setting(True, 3.0),), decoder_ceiling=False)
SETTINGS = Settings(size=64, num_inference_steps=3, rtol=1e-4)


def rows(photo, model, folder, methods=METHODS):
    folder.mkdir()
    plan = replace(PLAN, methods=tuple(methods))
    journal = run_audit([photo], model, plan, SETTINGS, folder)
    found = {row["method"]: row for row in journal.rows.values() if "method" in row}
    assert found.keys() == set(methods)
    return found


def test_methods_find_on_a_live_pipeline_what_they_find_on_its_checkpoint(mini, photo, tmp_path):
    """The weights are one, so are figures and counts of evaluations, but for rounding."""
    live = rows(photo, Model.from_pipeline(mini.pipeline), tmp_path / "live")
    loaded = rows(photo, mini, tmp_path / "loaded")
    for method, row in live.items():
        assert row.get("error") is None, method
        assert row["psnr"] == pytest.approx(loaded[method]["psnr"], abs=0.05), method
        for count in ("forward", "backward"):
            assert row[count] == loaded[method][count], method
    assert live["LBO"]["latent_fidelity_db"] > live["DDIM"]["latent_fidelity_db"] + 10
    assert json.loads((tmp_path / "live" / "results.jsonl").read_text().splitlines()[0])["kind"] == "photo"


def test_methods_that_flow_matching_can_t_use_are_refused_in_one_line_and_the_others_run(photo, tmp_path):
    pipe, call = make(CLASSIC["sd 3"])
    model = Model.from_pipeline(pipe, **call)
    with pytest.raises(UsageError, match=r"can't be run on StableDiffusion3Pipeline.*name other --methods"):
        run_audit([photo], model, PLAN, SETTINGS, tmp_path)
    found = rows(photo, model, tmp_path / "few", ["DDIM", "LBO"])
    assert found["LBO"]["latent_fidelity_db"] > found["DDIM"]["latent_fidelity_db"] + 10
