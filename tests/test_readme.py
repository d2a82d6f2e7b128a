import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from typer.testing import CliRunner

from invrecon import load_model, reconstruct
from invrecon.cli.app import app
from invrecon.metrics import psnr

ROOT = Path(__file__).parent.parent


def test_the_readme_s_python_runs_and_stock_diffusers_gives_our_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "samples", "samples")
    text = (ROOT / "README.md").read_text()
    command = re.search(r"```sh main\ninvrecon (.*)", text).group(1)
    assert CliRunner().invoke(app, command.split()).exit_code == 0
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, {})
    ours = reconstruct("results/fig.seed.safetensors", load_model("mini"))
    assert psnr(Image.open("stock.png"), ours.square) > 50
    assert Path("fig.seed.safetensors").stat().st_size > 0


def test_the_readme_s_script_tells_what_failed_and_takes_over_what_is_done(tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("drum", "fig"):
        Image.open(ROOT / "samples" / f"{name}.jpg").resize((64, 64)).save(
            tmp_path / "photos" / f"{name}.jpg"
        )
    (tmp_path / "photos" / "torn.jpg").write_bytes(b"no photo")
    script = re.search(r"```sh scripts\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL).group(1)
    script = script.replace("--resume", "--resume --size 64 --steps 2 --no-boost")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
    }
    told = [
        subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert told[0] == told[1]
    assert "some photos failed" in told[0]
    assert "torn.jpg" in told[0]
    assert len(re.findall(r"\.jpg \d+\.\d\d dB, seed norm", told[0])) == 2
    assert (tmp_path / "results.jsonl").read_text().count('"resumed": true') == 2


def test_the_readme_s_smoke_run_passes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("samples", "configs"):
        shutil.copytree(ROOT / folder, folder)
    commands = re.findall(r"^- run: invrecon (.*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        assert CliRunner().invoke(app, command.split()).exit_code == 0


def test_every_link_and_picture_of_the_readme_is_there():
    targets = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text())
    assert targets
    assert all((ROOT / target).exists() for target in targets if not target.startswith("http"))
