"""An audit's summary and rows, made up, and the page as a browser would see it."""

from html.parser import HTMLParser

import numpy as np
from PIL import Image

from invrecon.audit.methods.report import write_report

EVIL = "<script>alert(1)</script>.png"
PHOTOS = ("fig.png", EVIL)
METHODS = {
    "LBO": {"track": "A", "note": ""},
    "GNRI": {"track": "A", "note": "our reading: λ < 1"},
    "EDICT": {"track": "B", "note": ""},
}
SETTINGS = ("empty prompt, w = 1", "caption, w = 3")
FIDELITY = {"LBO": 70.25, "GNRI": 40.5, "EDICT": 80.125}


def save(folder, name, seed):
    y, x = np.mgrid[0:64, 0:64]
    rgb = np.stack((x * 4, y * 4, np.full_like(x, 90 * seed % 256)), -1) + np.random.default_rng(
        seed
    ).integers(0, 9, (64, 64, 3))
    (folder / "pictures").mkdir(exist_ok=True)
    Image.fromarray(rgb.clip(0, 255).astype(np.uint8)).save(folder / name)
    return name


def photo_row(folder, index):
    pictures = {
        key: save(folder, f"pictures/{index}.{key}.png", index) for key in ("original", "autoencoded")
    }
    ceilings = {"encoder_ceiling_db": 25.25, "decoder_ceiling_db": None}
    return {
        "kind": "photo",
        "photo": PHOTOS[index],
        "sha256": "ab12" * 16,
        "size": 64,
        **ceilings,
        **pictures,
    }


def run_row(folder, index, setting, method, budget, boosted=False):
    return {
        "kind": "run",
        "photo": PHOTOS[index],
        "setting": setting,
        "prompt": "a </script> prompt",
        "guidance_scale": 1.0,
        "steps": 3,
        "method": method,
        "track": METHODS[method]["track"],
        "budget": budget,
        "boosted": boosted,
        "psnr": 25.1,
        "ssim": 0.81,
        "lpips": None,
        "latent_nmse": 1e-7,
        "latent_fidelity_db": FIDELITY[method],
        "forward": 104,
        "backward": 0,
        "evaluations_per_step": 2.08,
        "seconds": 4.1,
        "peak_memory_mb": None,
        "stored_bytes": 49152,
        "converged_steps": None,
        "diverged_steps": 0,
        "timesteps": [1, 334, 667],
        "residuals": [1e-5, None, 3e-3],
        "health": {"norm": 1.01, "autocorrelation": 0.01, "normality": None},
        "picture": save(folder, f"pictures/{index}.{method}.png", index + 3) if budget is None else None,
        "error": None,
    }


def autoencoder_row(folder):
    figures = {
        "encoder_ceiling_db": 25.5,
        "boosted_db": 29.25,
        "without_proximal_db": 29.375,
        "decoder_ceiling_db": 30.0,
    }
    pictures = ("original", "autoencoded", "boosted", "ceiling")
    return {
        "kind": "autoencoder",
        "autoencoder": EVIL,
        "fingerprint": "cafe" * 16,
        "photo": "fig.png",
        "sha256": "ab12" * 16,
        "decoder_steps": 60,
        "ceiling_steps": 400,
        "share": 0.83,
        "distance": 0.25,
        "ceiling_distance": 0.5,
        **figures,
        **{name: save(folder, f"pictures/space.{name}.png", k) for k, name in enumerate(pictures)},
    }


def table(setting, budget, boosted=False):
    lines = [
        {
            "method": method,
            "track": METHODS[method]["track"],
            "photos": 2,
            "median_psnr": 26.1,
            "worst_psnr": 22.9,
            "median_ssim": 0.8,
            "median_fidelity_db": FIDELITY[method],
            "worst_fidelity_db": None,
            "evaluations_per_step": budget or 2.1,
            "backward_per_step": 0.0,
            "seconds": 4.0,
            "stored_bytes": 49152,
            "diverged_steps": 0,
            "lpips": None,
            "difference_to_lbo_db": None if method == "LBO" else -3.14,
            "interval": None if method == "LBO" else [-4.0, -2.0],
        }
        for method in METHODS
        if not boosted or METHODS[method]["track"] == "A"
    ]
    return {"setting": setting, "boosted": boosted, "budget": budget, "rows": lines}


class Page(HTMLParser):
    """What a browser would see: the tags with their attributes, and the tables as lists of rows of texts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.tables, self.cell, self.scripts = [], [], None, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.cell = ""
        elif tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.tables[-1][-1].append(self.cell)
            self.cell = None

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data
        if self.tags and self.tags[-1][0] == "script":
            self.scripts[-1] += data


def written(audit):
    text = write_report(*audit).read_text("utf-8")
    return text, Page(text)


def hollow(audit):
    """The same audit with nothing measured and one run in error."""
    summary, rows, folder = audit
    kept = {"size", "steps", "budget", "guidance_scale", "photos"}
    for row in (*rows, *(line for table in summary["tables"] for line in table["rows"])):
        row.update(
            {
                key: None
                for key, value in row.items()
                if isinstance(value, int | float) and key not in kept | {"boosted"}
            }
        )
        row.update({key: None for key in ("health", "interval") if key in row})
        row.update({"residuals": [None] * 3} if "residuals" in row else {})
    rows[2].update(psnr=float("nan"), error="its <output> isn't finite", picture=None)
    return summary, rows, folder
