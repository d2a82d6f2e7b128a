import pytest
import torch

from tests.audit.reports import METHODS, PHOTOS, SETTINGS, photo_row, run_row, table


@pytest.fixture
def image_latents():
    return torch.randn(1, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def audit(tmp_path):
    """(summary, rows, folder) of two photos, two settings and three methods."""
    folder = tmp_path / "audit"
    folder.mkdir()
    rows = [photo_row(folder, index) for index in range(2)]
    rows += [
        run_row(folder, i, setting, name, b)
        for i in range(2)
        for setting in SETTINGS
        for name in METHODS
        for b in (None, 2, 5)
    ]
    rows += [run_row(folder, i, setting, "LBO", None, boosted=True) for i in range(2) for setting in SETTINGS]
    stages = dict.fromkeys(("encoder", "boosting", "trajectory", "guidance", "eight_bits"), 26.0)
    summary = {
        "command": "invrecon audit '<img src=x>'",
        "versions": {"invrecon": "0.1.0", "torch": "2.13.0"},
        "steps": 3,
        "size": 64,
        "model": {"name": "mini", "fingerprint": "feed" * 16},
        "methods": METHODS,
        "verdict": [
            {"claim": "LBO < others", "holds": True, "why": "see <below>"},
            {"claim": "LBO is best", "holds": False, "why": "EDICT; " * 90},
        ],
        "losses": [{"photo": name, **stages} for name in PHOTOS],
        "remarks": ["mini is a <b>toy</b>"],
        "tables": [
            *(table(s, b) for s in SETTINGS for b in (None, 2, 5)),
            *(table(s, None, boosted=True) for s in SETTINGS),
        ],
    }
    return summary, rows, folder
