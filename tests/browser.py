"""Headless Chromium, where it and its driver are installed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def open_browser(logs: dict[str, str], width: int = 1200, height: int = 900) -> Iterator[Any]:
    """A driver of Chromium that keeps `logs`; skips the test where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    if not chromium or not chromedriver:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    size = f"window-size={width},{height}"
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", size):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", logs)
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver)) as driver:
        driver.set_page_load_timeout(180)  # seconds; machines may be busy
        yield driver
