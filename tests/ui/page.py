"""What a person does on the page, and what they see."""

import json
import time
from urllib.parse import urlsplit

PATIENCE = 180  # seconds; machines may be busy


class Page:
    """The page in a browser."""

    def __init__(self, driver, address):
        self.driver, self.address = driver, address
        driver.get(address)
        self.wait(lambda: self.find("#reconstruct-run").is_displayed())

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def value(self, script, *arguments):
        return self.driver.execute_script(f"return {script}", *arguments)

    def wait(self, condition):
        """Until the condition holds; what can't be asked yet counts as not."""
        from selenium.common.exceptions import WebDriverException

        ends = time.monotonic() + PATIENCE
        while True:
            try:
                if condition():
                    return
            except WebDriverException:
                pass
            assert time.monotonic() < ends, self.find("body").text
            time.sleep(0.05)

    def open_tab(self, title):
        tabs = self.all("button[role=tab]")
        next(tab for tab in tabs if tab.text == title).click()
        self.wait(lambda: self.find(f"#{title.lower()}-run").is_displayed())

    def send(self, field, *paths):
        """Drops files into a field."""
        self.find(f"#{field} input[type=file]").send_keys("\n".join(map(str, paths)))
        self.wait(lambda: all(path.stem[:5] in self.find(f"#{field}").text for path in paths))

    def fill(self, field, text):
        selector = f"#{field} :is(input, textarea)"
        self.wait(lambda: self.find(selector).is_displayed())
        box = self.find(selector)
        self.driver.execute_script("arguments[0].select()", box)
        box.send_keys(text)

    def choose(self, field, text):
        labels = self.all(f"#{field} label")
        next(label for label in labels if label.text == text).click()

    def status(self, tab):
        return self.find(f"#{tab}-status").text

    def start(self, tab):
        self.find(f"#{tab}-run").click()

    def run(self, tab):
        """Starts a job and waits for its end, told by another line than was there, which is returned."""
        before = self.status(tab)
        self.start(tab)
        self.wait(lambda: self.status(tab) != before and self.has_ended(tab))
        return self.status(tab)

    def has_ended(self, tab):
        alerts = self.all(f"#{tab}-status [role=alert]")
        return bool(alerts) or self.status(tab) in ("Done.", "Cancelled.")

    def cancel(self, tab):
        self.wait(lambda: self.find(f"#{tab}-cancel").is_displayed())
        self.find(f"#{tab}-cancel").click()
        self.wait(lambda: self.status(tab) == "Cancelled.")

    def figure(self, tab, name):
        rows = self.find(f"#{tab}-figures").text.splitlines()
        return float(next(row for row in rows if row.startswith(name)).rsplit(" ", 1)[1])

    def save(self, button, folder):
        """The file that a button saves, in an empty folder."""
        folder.mkdir()
        behaviour = {"behavior": "allow", "downloadPath": str(folder)}
        self.driver.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
        self.find(f"#{button}").click()
        self.wait(lambda: [path.suffix for path in folder.iterdir()] not in ([], [".crdownload"]))
        self.wait(lambda: len(list(folder.iterdir())) == 1 and next(folder.iterdir()).stat().st_size > 0)
        return next(folder.iterdir())

    def hosts(self):
        """Which hosts the browser has asked for something since this was last called."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return {urlsplit(url).netloc for url in urls if not url.startswith(("data:", "blob:"))}

    def problems(self):
        """Errors in the console; Gradio's own parts warn there of deprecated calls to each other."""
        return [entry for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
