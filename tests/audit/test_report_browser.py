"""The audit's page, alive in a real browser."""

import re

import pytest

from invrecon.audit.methods.report import write_report
from tests.audit.reports import EVIL, SETTINGS, hollow
from tests.browser import open_browser


@pytest.fixture(params=["light", "dark"])
def browser(request):
    """Headless Chromium that prefers light or dark."""
    with open_browser({"browser": "ALL"}) as driver:
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
