import re
import shutil
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


def test_every_link_and_picture_of_the_readme_is_there():
    targets = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text())
    assert targets
    assert all((ROOT / target).exists() for target in targets if not target.startswith("http"))
