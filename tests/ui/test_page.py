"""The page of `invrecon ui` in a real browser, as a person uses it."""

import re
import socket
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image

from invrecon.errors import InputError
from invrecon.image import load_photo, read_about
from invrecon.seedfile import load_seed
from tests.browser import open_browser
from tests.ui.page import PATIENCE, Page

pytestmark = pytest.mark.page

MEASURE = "getComputedStyle(document.querySelectorAll('#reconstruct-slider img')[1]).clipPath"


@pytest.fixture(scope="module")
def driver():
    with open_browser({"browser": "ALL", "performance": "ALL"}, height=1600) as driver:
        yield driver


@pytest.fixture
def page(driver, address):
    """A fresh page. In the end no error is in its console, and nothing was asked of another host."""
    page = Page(driver, address)
    yield page
    assert page.problems() == []
    assert page.hosts() == {urlsplit(address).netloc}


def sources(page, tab):
    images = f"[...document.querySelectorAll('#{tab}-slider img')]"
    page.wait(lambda: page.value(f"{images}.length == 2 && {images}.every(image => image.naturalWidth > 0)"))
    return page.value(f"{images}.map(image => decodeURI(image.src.split('/').pop()))")


def pictures(page, tab, at_least):
    """Those of a gallery, as soon as there are so many."""
    selector = f"#{tab}-gallery button:has(img)"
    page.wait(lambda: len(page.all(selector)) >= at_least)
    return page.all(selector)


def test_a_photo_comes_back_and_its_seed_is_verified(page, photo, tmp_path):
    from selenium.webdriver import ActionChains

    page.send("reconstruct-source", photo)
    assert page.run("reconstruct") == "Done."
    assert sources(page, "reconstruct") == ["photo.png", "invrecon.png"]
    assert page.value(MEASURE) == "inset(0px 0px 0px 50%)"
    handle = page.find("#reconstruct-slider [data-testid=slider]")
    ActionChains(page.driver).drag_and_drop_by_offset(handle, 100, 0).perform()
    page.wait(lambda: float(re.search(r"([\d.]+)%", page.value(MEASURE))[1]) > 60)
    page.choose("reconstruct-left", "DDIM inversion")
    page.wait(lambda: sources(page, "reconstruct") == ["DDIM inversion.png", "invrecon.png"])

    seed = page.save("reconstruct-seed", tmp_path / "seed")
    assert seed.name == "photo.seed.safetensors"
    assert load_seed(seed).header["photo"]["sha256"] == load_photo(photo).sha256
    picture = page.save("reconstruct-picture", tmp_path / "picture")
    assert load_photo(picture).rgb.size == load_photo(photo).rgb.size
    about = read_about(picture)
    assert (about["kind"], about["model"]) == ("reconstruction", "mini")
    assert about["seed_sha256"] == load_seed(seed).sha256
    psnr = page.figure("reconstruct", "invrecon: PSNR")

    page.open_tab("Verify")
    page.send("verify-seed", seed)
    page.send("verify-photo", photo)
    assert page.run("verify") == "Done."
    assert sources(page, "verify") == ["photo.png", "by diffusers.png"]
    assert page.figure("verify", "By diffusers: PSNR") == pytest.approx(psnr, abs=0.05)


def test_an_edit_changes_what_is_painted(page, photo, tmp_path):
    from selenium.webdriver import ActionChains

    page.open_tab("Edit")
    page.send("edit-photo", photo)
    page.fill("edit-prompt", "a red ball")
    page.fill("edit-to", "a green ball\na blue ball")
    page.choose("edit-place", "Where I paint")
    page.wait(lambda: page.find("#edit-painting canvas").is_displayed())
    assert page.run("edit") == "nothing is painted: paint over the part of the photo that may change"
    canvas = page.find("#edit-painting canvas")
    for down in range(-40, 41, 10):  # the middle of the photo, for half of its width
        brush = ActionChains(page.driver).move_to_element_with_offset(canvas, -50, down).click_and_hold()
        brush.move_by_offset(50, 0).move_by_offset(50, 0).release().perform()
    assert page.run("edit") == "Done."
    assert sources(page, "edit") == ["photo.png", "result 2.png"]

    results = pictures(page, "edit", 2)
    assert len(results) == 2
    results[1].click()
    page.wait(lambda: page.find("#edit-seed").text == "Save seed file 2")
    seed = load_seed(page.save("edit-seed", tmp_path / "seed"))
    assert seed.header["edit"]["to"] == "a blue ball"
    about = read_about(page.save("edit-picture", tmp_path / "picture"))
    assert (about["kind"], about["seed_sha256"]) == ("edit", seed.sha256)
    mask = np.asarray(seed.mask) > 127
    height, width = mask.shape
    assert mask[height // 2, width // 2]
    assert 0.05 < mask.mean() < 0.5
    assert not mask[[0, -1]].any()
    assert not mask[:, [0, -1]].any()


def test_the_way_between_two_photos_is_an_animation(page, photo, tmp_path):
    other = tmp_path / "other.png"
    load_photo(photo).rgb.rotate(180).save(other)
    page.open_tab("Imagine")
    page.send("imagine-photos", photo, other)
    page.choose("imagine-kind", "The way from the first photo to the second")
    page.wait(lambda: page.find("#imagine-frames").is_displayed())
    page.fill("imagine-frames", "3")
    assert page.run("imagine") == "Done."
    assert len(pictures(page, "imagine", 3)) == 3
    page.wait(lambda: page.find("#imagine-animation img").is_displayed())
    animation = page.find("#imagine-animation img").get_attribute("src")
    with urlopen(animation, timeout=PATIENCE) as file, Image.open(file) as image:
        assert image.n_frames == 4  # there and back


def test_new_pictures_appear_as_they_come_and_stay_when_the_job_is_cancelled(page, photo):
    page.open_tab("Imagine")
    page.send("imagine-photos", photo)
    page.fill("imagine-count", "50")
    page.start("imagine")
    pictures(page, "imagine", 3)
    page.wait(lambda: page.find("#imagine-seed").text == "Save seed file 1")
    assert not page.has_ended("imagine")
    page.cancel("imagine")
    assert 1 <= len(pictures(page, "imagine", 1)) < 50


def test_what_is_no_photo_gets_the_line_that_the_command_prints(page, tmp_path):
    text = tmp_path / "notes <i>.png"
    text.write_text("no picture")
    with pytest.raises(InputError) as error:
        load_photo(text)
    line = str(error.value).split(": ", 1)[1]
    page.send("reconstruct-source", text)
    page.wait(lambda: page.status("reconstruct").endswith(line))
    page.open_tab("Imagine")
    page.send("imagine-photos", text)
    assert re.fullmatch(f"notes .*\\.png: {re.escape(line)}", page.run("imagine"))
    assert page.find("#imagine-status [role=alert]").is_displayed()


def test_settings_are_checked_as_the_command_checks_them(page, photo):
    page.send("reconstruct-source", photo)
    page.find("#reconstruct-settings button").click()
    page.fill("reconstruct-num_inference_steps", "0")
    assert page.run("reconstruct") == "num_inference_steps must lie between 1 and 1000, not 0"
    page.fill("reconstruct-num_inference_steps", "2")
    assert page.run("reconstruct") == "Done."


def test_jobs_wait_for_each_other_and_can_be_cancelled(page, photo):
    driver = page.driver
    page.send("reconstruct-source", photo)
    page.find("#reconstruct-settings button").click()
    page.fill("reconstruct-num_inference_steps", "500")
    page.start("reconstruct")
    page.wait(lambda: re.match(r"Inverting\s+\d+ of 500", page.status("reconstruct")))
    first = driver.current_window_handle
    driver.switch_to.new_window("tab")
    second = Page(driver, page.address)
    second.send("reconstruct-source", photo)
    second.start("reconstruct")
    second.wait(lambda: second.status("reconstruct") == "Waiting: 1 job is ahead of yours.")
    second.cancel("reconstruct")
    second.start("reconstruct")
    driver.switch_to.window(first)
    page.cancel("reconstruct")
    driver.switch_to.window(driver.window_handles[1])
    second.wait(lambda: second.status("reconstruct") == "Done.")
    driver.close()
    driver.switch_to.window(first)


@pytest.mark.parametrize("way", ["close", "reload"])
def test_leaving_the_page_cancels_its_job(page, photo, way):
    driver, stays = page.driver, page.driver.current_window_handle
    driver.switch_to.new_window("tab")
    other, leaves = Page(driver, page.address), driver.current_window_handle
    other.send("reconstruct-source", photo)
    other.find("#reconstruct-settings button").click()
    other.fill("reconstruct-num_inference_steps", "500")
    other.start("reconstruct")
    other.wait(lambda: re.match(r"Inverting\s+\d+ of 500", other.status("reconstruct")))
    driver.switch_to.window(stays)
    page.send("reconstruct-source", photo)
    page.start("reconstruct")
    page.wait(lambda: page.status("reconstruct") == "Waiting: 1 job is ahead of yours.")
    driver.switch_to.window(leaves)
    if way == "reload":
        driver.get(page.address)
        page.problems()  # of the page that was left, whose requests end with it
    driver.close()
    driver.switch_to.window(stays)
    page.wait(lambda: page.status("reconstruct") == "Done.")


@pytest.mark.parametrize("width", [320, 390])
def test_nothing_overflows_a_phone(page, width):
    screen = {"width": width, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    phone = Page(page.driver, page.address)
    try:
        for title in ("Edit", "Imagine", "Verify", "Reconstruct"):
            phone.open_tab(title)
            assert page.value("document.documentElement.scrollWidth") == width
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_page_is_for_this_machine_and_gives_no_other_files(address):
    with urlopen(address, timeout=PATIENCE) as answer:
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    for request in (
        Request(f"{address}gradio_api/file={__file__}"),
        Request(address, headers={"Host": "example.org"}),
    ):
        with pytest.raises(HTTPError, match=r"HTTP Error 40[03]"):
            urlopen(request, timeout=PATIENCE)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", urlsplit(address).port), timeout=5)
