"""The audit's page: complete, harmless whatever the data are called, and alive in a real browser."""

import html
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from invrecon.audit.markdown import to_markdown
from invrecon.audit.report import write_report
from invrecon.errors import InvreconError

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
        "kind": "run", "photo": PHOTOS[index], "setting": setting, "prompt": "a </script> prompt", "guidance_scale": 1.0, "steps": 3,
        "method": method, "track": METHODS[method]["track"], "budget": budget, "boosted": boosted, "psnr": 25.1, "ssim": 0.81,
        "lpips": None, "latent_nmse": 1e-7, "latent_fidelity_db": FIDELITY[method], "forward": 104, "backward": 0,
        "evaluations_per_step": 2.08, "seconds": 4.1, "peak_memory_mb": None, "stored_bytes": 49152, "converged_steps": None,
        "diverged_steps": 0, "timesteps": [1, 334, 667], "residuals": [1e-5, None, 3e-3],
        "health": {"norm": 1.01, "autocorrelation": 0.01, "normality": None},
        "picture": save(folder, f"pictures/{index}.{method}.png", index + 3) if budget is None else None, "error": None,
    }  # fmt: skip


def table(setting, budget, boosted=False):
    lines = [
        {
            "method": method, "track": METHODS[method]["track"], "photos": 2, "median_psnr": 26.1, "worst_psnr": 22.9, "median_ssim": 0.8,
            "median_fidelity_db": FIDELITY[method], "worst_fidelity_db": None, "evaluations_per_step": budget or 2.1,
            "backward_per_step": 0.0, "seconds": 4.0, "stored_bytes": 49152, "diverged_steps": 0, "lpips": None,
            "difference_to_lbo_db": None if method == "LBO" else -3.14, "interval": None if method == "LBO" else [-4.0, -2.0],
        }
        for method in METHODS
        if not boosted or METHODS[method]["track"] == "A"
    ]  # fmt: skip
    return {"setting": setting, "boosted": boosted, "budget": budget, "rows": lines}


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
        "command": "invrecon audit '<img src=x>'", "versions": {"invrecon": "0.1.0", "torch": "2.13.0"}, "steps": 3, "size": 64,
        "model": {"name": "mini", "fingerprint": "feed" * 16}, "methods": METHODS,
        "verdict": [
            {"claim": "LBO < others", "holds": True, "why": "see <below>"},
            {"claim": "LBO is best", "holds": False, "why": "EDICT; " * 90},
        ],
        "losses": [{"photo": name, **stages} for name in PHOTOS], "remarks": ["mini is a <b>toy</b>"],
        "tables": [*(table(s, b) for s in SETTINGS for b in (None, 2, 5)), *(table(s, None, boosted=True) for s in SETTINGS)],
    }  # fmt: skip
    return summary, rows, folder


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


def test_page_loads_nothing(audit):
    text, page = written(audit)
    links = [
        value
        for _, attributes in page.tags
        for key, value in attributes.items()
        if key in ("src", "href", "srcset", "data", "action")
    ]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not {"link", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttp", text)
    assert "default-src 'none'" in text


def test_names_are_harmless(audit):
    text, page = written(audit)
    assert EVIL not in text
    assert html.escape(EVIL) in text
    assert text.count("<script") == text.count("</script>") == 2
    assert not re.search("<img src=x>|<below>|<b>toy|λ < 1", text)
    data = json.loads(page.scripts[0])
    assert [photo["photo"] for photo in data["photos"]] == list(PHOTOS)
    assert data["runs"][0]["prompt"] == "a </script> prompt"


def test_data_that_look_like_a_place_stay_as_they_are(audit):
    audit[0]["command"] = "<!-- data -->"
    text, _ = written(audit)
    assert "&lt;!-- data --&gt;" in text
    assert "<!-- " not in text


def test_verdict_comes_first_and_is_in_words(audit):
    text, _ = written(audit)
    claims = text[text.index('id="verdict"') : text.index('id="results"')]
    assert "1 of 2" in claims
    assert (
        claims.index("✓ Holds")
        < claims.index("LBO &lt; others")
        < claims.index("✗ Does not hold")
        < claims.index("LBO is best")
    )
    assert text.index('id="verdict"') < text.index("<table")


def test_each_table_holds_one_track_only_best_first(audit):
    _, page = written(audit)
    names = [[row[0].rstrip("†") for row in rows[1:]] for rows in page.tables]
    by_method = [column for column in names if set(column) & set(METHODS)]
    assert all(len({METHODS[name]["track"] for name in column}) == 1 for column in by_method)
    assert by_method[:3] == [
        ["LBO", "GNRI"],
        ["EDICT"],
        ["LBO", "GNRI"],
    ]  # settings in A, in B, and A from boosted latents
    assert len(by_method) == 2 * 3 + 2 * 2 + 2  # published, equal budgets, health
    assert "−3.1 [−4.0, −2.0]" in page.tables[0][2][5]
    assert not any("LBO" in cell for row in page.tables[1] for cell in row)


def test_best_is_bold_only_where_there_is_a_difference(audit):
    text, _ = written(audit)
    assert "<td><b>70.2</b></td>" in text
    assert "<b>40.5</b>" not in text
    assert "<b>26.10</b>" not in text


def test_equal_budgets_stand_side_by_side(audit):
    _, page = written(audit)
    head, *body = next(rows for rows in page.tables if "2 evaluations" in rows[0])
    assert head == ["Method", "2 evaluations", "5 evaluations"]
    assert body[0][1].startswith("70.2worst – · PSNR 26.1 · used 2.00")


def test_open_details_have_a_dagger_and_their_note(audit):
    text, page = written(audit)
    marked = {row[0] for rows in page.tables for row in rows if row[0].rstrip("†") in METHODS}
    assert marked == {"LBO", "GNRI†", "EDICT"}
    assert "our reading: λ &lt; 1" in text[text.index('id="notes"') :]


def test_origin_is_told(audit):
    text, _ = written(audit)
    origin = text[text.index('id="origin"') :]
    assert "invrecon audit &#x27;&lt;img src=x&gt;&#x27;" in origin
    assert all(word in origin for word in ("feed" * 16, "0.1.0", "2.13.0", "mini"))


def test_pictures_are_embedded_with_maps_for_published_settings_only(audit):
    _, page = written(audit)
    data = json.loads(page.scripts[0])
    assert len(data["runs"]) == 2 * 2 * 4
    assert all(
        run[key].startswith("data:image/webp;base64,") for run in data["runs"] for key in ("picture", "map")
    )


@pytest.mark.parametrize("damage", ["gone", "no picture", "other size", "outside", None])
def test_missing_pictures_are_left_out(audit, damage):
    _, rows, folder = audit
    name = "pictures/0.LBO.png"
    if damage == "gone":
        (folder / name).unlink()
    elif damage == "no picture":
        (folder / name).write_text("not a picture")
    elif damage == "other size":
        Image.new("RGB", (9, 9)).save(folder / name)
    else:
        shutil.copy(folder / name, folder.parent / "outside.png")
        for row in rows:
            if row.get("picture") == name:
                row["picture"] = "../outside.png" if damage else None
    _, page = written(audit)
    run = next(
        run
        for run in json.loads(page.scripts[0])["runs"]
        if run["photo"] == "fig.png" and run["method"] == "LBO"
    )
    assert (run["picture"] is None) == (damage != "other size")
    assert run["map"] is None


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


def test_nulls_become_dashes(audit):
    text, page = written(hollow(audit))
    assert page.tables[0][1][1:3] == ["–", "–"]
    assert "nan" not in re.sub('base64,[^"]*', "", text[: text.index("<script>")]).lower()
    assert "its &lt;output&gt; isn&#x27;t finite" in text


def test_an_audit_without_runs_has_a_page(audit):
    summary, _, folder = audit
    summary.update(verdict=[], losses=[], tables=[], remarks=[], methods={})
    assert "None." in write_report(summary, [], folder).read_text("utf-8")


def test_page_is_there_whole_or_not_at_all(audit):
    summary, rows, folder = audit
    (folder / "report.html").mkdir()
    with pytest.raises(InvreconError, match=r"report\.html: can't be written"):
        write_report(summary, rows, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["pictures", "report.html"]


@pytest.fixture(params=["light", "dark"])
def browser(request):
    """Headless Chromium that prefers light or dark."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    if not chromium or not chromedriver:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "headless=new",
        "no-sandbox",
        "disable-dev-shm-usage",
        "disable-gpu",
        "window-size=1200,900",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver)) as driver:
        feature = {"name": "prefers-color-scheme", "value": request.param}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        driver.scheme = request.param
        yield driver


def value(browser, script):
    return browser.execute_script(f"return {script}")


def choose(browser, name, text):
    from selenium.webdriver.support.select import Select

    Select(browser.find_element("id", name)).select_by_visible_text(text)


def test_page_in_a_browser(audit, browser):
    from selenium.webdriver import ActionChains, Keys

    browser.get(write_report(*audit).as_uri())
    ground = re.findall(r"\d+", value(browser, "getComputedStyle(document.body).backgroundColor"))
    assert (sum(map(int, ground)) > 600) == (browser.scheme == "light")
    assert value(browser, "document.querySelectorAll('#trade svg').length") == len(SETTINGS)
    labels = value(browser, "[...document.querySelectorAll('#trade text')].map(text => text.textContent)")
    assert {
        "network evaluations a step (log scale)",
        "median latent fidelity, dB",
        *("LBO", "GNRI †", "EDICT"),
    } <= set(labels)

    before = value(browser, "document.getElementById('after').src")
    for name, text in (("photo", EVIL), ("setting", SETTINGS[1]), ("method", "GNRI †")):
        choose(browser, name, text)
    assert value(browser, "document.getElementById('after').src") != before
    assert value(browser, "document.getElementById('tag').textContent") == "GNRI"
    assert (
        value(
            browser,
            "document.getElementById('after').complete && document.getElementById('after').naturalWidth",
        )
        == 64
    )
    assert (
        value(browser, "document.querySelectorAll('#curve circle').length") == 4
    )  # two of three residuals, of it and of LBO

    clip = "getComputedStyle(document.getElementById('after')).clipPath"
    slider = browser.find_element("id", "slider")
    assert value(browser, clip) == "inset(0px 0px 0px 50%)"
    slider.send_keys(Keys.ARROW_RIGHT * 3)
    assert value(browser, clip) == "inset(0px 0px 0px 53%)"
    ActionChains(browser).drag_and_drop_by_offset(slider, -slider.size["width"] // 4, 0).perform()
    assert abs(float(re.search(r"([\d.]+)%", value(browser, clip))[1]) - 25) < 3

    browser.find_element("css selector", "input[value=psnr]").click()
    labels = value(browser, "[...document.querySelectorAll('#trade text')].map(text => text.textContent)")
    assert {"median PSNR, dB", "encoder's ceiling"} <= set(labels)
    choose(browser, "method", "autoencoder only")
    assert browser.find_element("id", "compare").is_displayed()
    assert not browser.find_element("id", "error").is_displayed()
    assert browser.get_log("browser") == []


def test_hollow_page_in_a_browser(audit, browser):
    browser.get(write_report(*hollow(audit)).as_uri())
    assert "its <output> isn't finite" in browser.find_element("id", "message").text
    assert not browser.find_element("id", "compare").is_displayed()
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [320, 390])
def test_nothing_overflows_a_phone(audit, browser, width):
    screen = {"width": width, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get(write_report(*audit).as_uri())
    assert value(browser, "document.documentElement.scrollWidth") == value(browser, "innerWidth") == width
    scrolls = value(
        browser,
        "[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth).length",
    )
    assert scrolls > 0
    assert browser.get_log("browser") == []


def test_markdown_has_a_table_for_each_setting(audit):
    summary = audit[0]
    summary["tables"][1]["rows"][0]["evaluations_per_step"] = 2.5  # more than its budget of 2
    text = to_markdown(summary)
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    tables = [rows[i : i + 2 + len(METHODS)] for i in range(0, len(rows), 2 + len(METHODS))]
    assert [table[0][5:7] for table in tables] == [["at 2", "at 5"]] * len(SETTINGS)
    first = tables[0][2]
    assert first[:2] == ["LBO", "A"]
    assert first[5:7] == ["", f"{FIDELITY['LBO']:.1f}"]
    assert [row[8] for row in tables[0][2:]] == [
        "26.10" if METHODS[row[0]]["track"] == "A" else "" for row in tables[0][2:]
    ]
    assert "- **Does not hold**: LBO is best." in text
    assert "<below>" not in text
