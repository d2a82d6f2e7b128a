"""A page as services run it, and one of a flow model."""

import re
import signal

import pytest
from transformers import CLIPTokenizerFast

from invrecon.image import read_about
from invrecon.models import model_folder
from tests import checkpoints
from tests.browser import open_browser
from tests.ui.conftest import served
from tests.ui.page import Page

pytestmark = pytest.mark.page


def test_sigterm_ends_a_page_in_the_midst_of_a_job(tmp_path, photo):
    with (
        open_browser({"browser": "ALL"}) as driver,
        served(tmp_path, ignoring=True, ends_by=signal.SIGTERM) as address,
    ):
        page = Page(driver, address)
        page.send("reconstruct-source", photo)
        page.find("#reconstruct-settings button").click()
        page.fill("reconstruct-num_inference_steps", "500")
        page.start("reconstruct")
        page.wait(lambda: re.match(r"Inverting\s+\d+ of 500", page.status("reconstruct")))


def test_a_flow_model_has_its_own_modes_of_edits(tmp_path, photo):
    tokenizer = CLIPTokenizerFast.from_pretrained(model_folder("mini") / "tokenizer")
    model = checkpoints.save(tmp_path / "model", checkpoints.stable_diffusion_3, tokenizer, False)
    with (
        open_browser({"browser": "ALL"}, height=1600) as driver,
        served(tmp_path, "--model", str(model)) as address,
    ):
        page = Page(driver, address)
        page.open_tab("Edit")
        page.send("edit-photo", photo)
        page.fill("edit-prompt", "a red apple")
        page.fill("edit-to", "a blue apple")
        page.find("#edit-settings button").click()
        page.wait(lambda: page.find("#edit-mode").is_displayed())
        modes = [label.text.partition(":")[0] for label in page.all("#edit-mode label")]
        assert modes == ["swap", "sdedit", "inject", "flowedit"]
        page.choose("edit-mode", "swap: freer, the seed alone is kept")  # no longer
        page.choose("edit-mode", "flowedit: without a seed")
        assert page.run("edit") == "Done."
        page.wait(lambda: page.find("#edit-picture").text == "Save picture")
        assert not any(button.is_displayed() for button in page.all("#edit-seed"))
        about = read_about(page.save("edit-picture", tmp_path / "picture"))
        assert about["kind"] == "edit"
        assert "seed_sha256" not in about
        assert page.problems() == []
