"""What the pages say: links lead somewhere, marked blocks run, the settings' page is up to date."""

import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import invrecon
from invrecon import load_model, reconstruct
from invrecon.cli.app import app
from invrecon.metrics import psnr
from invrecon.settings.reference import reference

ROOT = Path(__file__).parent.parent
FOLDERS = (".github", "configs", "invrecon", "samples")
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md")),
    *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.md"))),
]
BLOCK = re.compile(r"^```(sh|python) run\n(.*?)^```$", re.MULTILINE | re.DOTALL)
GUIDE = ROOT / "invrecon" / "pipeline" / "README.md"
FUNCTIONS = [name for name in invrecon.__all__ if inspect.isfunction(getattr(invrecon, name))]


def name_of(path):
    return str(path.relative_to(ROOT))


def anchors(path):
    """Those that GitHub gives to the headings of a page."""
    titles = re.findall(
        r"^#+ (.*)$", re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), target
        assert there.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(there), target


def test_every_page_of_a_room_is_linked_from_the_front_page():
    linked, front = set(), [ROOT / "README.md"]
    while front:
        page = front.pop()
        targets = [t.partition("#")[0] for t in re.findall(r"\]\(([^)\s]+\.md)[^)]*\)", page.read_text())]
        new = {(page.parent / target).resolve() for target in targets} - linked
        linked |= new
        front += new
    assert set(PAGES) - linked <= {ROOT / "README.md"}


def test_the_front_page_has_at_most_1200_words():
    assert len((ROOT / "README.md").read_text().split()) <= 1200


@pytest.mark.parametrize("page", [p for p in PAGES if BLOCK.search(p.read_text())], ids=name_of)
def test_every_marked_block_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("samples", "configs"):
        shutil.copytree(ROOT / folder, folder)
    for language, block in BLOCK.findall(page.read_text()):
        if language == "python":
            exec(block, {})
            continue
        for line in block.splitlines():
            program, *arguments = shlex.split(line, comments=True)
            assert program == "invrecon", line
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code == 0, (line, result.output)
    if page == ROOT / "README.md":
        ours = reconstruct("fig.seed.safetensors", load_model("mini"))
        assert psnr(Image.open("stock.png"), ours.square) > 50


def test_the_script_tells_what_failed_and_takes_over_what_is_done(tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("drum", "fig"):
        photo = Image.open(ROOT / "samples" / f"{name}.jpg").resize((64, 64))
        photo.save(tmp_path / "photos" / f"{name}.jpg")
    (tmp_path / "photos" / "torn.jpg").write_bytes(b"no photo")
    script = re.search(r"^```sh script\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE).group(1)
    script = script.replace("--resume", "--resume --size 64 --steps 2 --no-boost")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "HF_HUB_OFFLINE": "1"}
    run = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "check": True}
    told = [subprocess.run(["bash", "-c", script], **run).stdout for _ in range(2)]
    assert told[0] == told[1]
    assert "some photos failed" in told[0]
    assert "torn.jpg" in told[0]
    assert len(re.findall(r"\.jpg \d+\.\d\d dB, seed norm", told[0])) == 2
    assert (tmp_path / "results.jsonl").read_text().count('"resumed": true') == 2


def test_the_page_of_settings_is_what_its_command_prints():
    assert (ROOT / "configs" / "README.md").read_text() == reference()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_says_what_it_takes_gives_and_raises(name):
    function = getattr(invrecon, name)
    text = inspect.getdoc(function)
    summary, *_ = text.split("\n\n")
    assert summary.endswith((".", ":"))
    described = re.search(r"^Args:\n((?:    .*\n?|\n(?=    ))+)", text, re.MULTILINE).group(1)
    names = re.findall(r"^    ([\w, ]+):", described, re.MULTILINE)
    assert {one for line in names for one in line.split(", ")} == set(inspect.signature(function).parameters)
    assert re.search(r"^Raises:\n    \w", text, re.MULTILINE)
    returns = re.search(r"^(Returns|Yields):\n    \w", text, re.MULTILINE)
    assert bool(returns) == (inspect.signature(function).return_annotation not in (None, "None"))


@pytest.mark.parametrize("name", sorted(set(invrecon.__all__) - set(FUNCTIONS)))
def test_a_public_class_describes_its_arguments(name):
    assert "Args:\n" in inspect.getdoc(getattr(invrecon, name))
