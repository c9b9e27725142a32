"""Headless Chromium on the page: what a user does, and what the browser saw."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
AXE = Path(__file__).resolve().parents[2] / ".cache/axe-core/axe.min.js"
#: Far more than a busy machine needs.
SECONDS = 120
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)


WIDE, NARROW = (1280, 1600), (360, 800)
#: Keeps the requests of the page that have no answer yet, and when the last answer came.
_KEPT = """
window.unanswered = new Set();
window.answered = Date.now();
const original = window.fetch;
window.fetch = (...given) => {
  const request = {url: String(given[0]), body: String(given[1]?.body ?? "").slice(0, 500)};
  window.unanswered.add(request);
  return original(...given).finally(() => {
    window.unanswered.delete(request);
    window.answered = Date.now();
  });
};
"""
#: Elements that end outside of the window, where nothing around them scrolls.
_CUT_OFF = """
const wide = document.documentElement.clientWidth;
const scrolls = e => e && e !== document.body
  && (["auto", "scroll"].includes(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
return [...document.querySelectorAll("main *")]
  .filter(e => e.checkVisibility({checkOpacity: true, checkVisibilityCSS: true}))
  .filter(e => { const r = e.getBoundingClientRect();
    return r.width > 1 && r.height > 1 && (r.right > wide + 1 || r.left < -1); })
  .filter(e => !scrolls(e.parentElement))
  .map(e => e.outerHTML.slice(0, 150));
"""


class Browser:
    """One browser with a profile of its own.

    Attributes:
        clicks: How often the user clicked.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        options = webdriver.ChromeOptions()
        for flag in _FLAGS:
            options.add_argument(flag)
        options.binary_location = str(CHROMIUM)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver: Any = webdriver.Chrome(
            options=options, service=webdriver.ChromeService(str(DRIVER))
        )
        # A window itself is never as narrow as a telephone.
        metrics = {"deviceScaleFactor": 1, "mobile": False}
        metrics |= dict(zip(("width", "height"), size, strict=True))
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _KEPT})
        self.driver.set_script_timeout(SECONDS)
        self.clicks = 0

    def find(self, selector: str) -> Any:
        """The first element of a CSS selector that is shown."""
        elements = self.driver.find_elements(By.CSS_SELECTOR, selector)
        return next(element for element in elements if element.is_displayed())

    def wait(self, wanted: Callable[[], Any], what: str) -> Any:
        """What is true once, however long the page takes to show it."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            try:
                if found := wanted():
                    return found
            except (WebDriverException, StopIteration):  # not there yet, or drawn anew
                pass
            time.sleep(0.1)
        raise AssertionError(f"never: {what}. The page: {self.find('body').text[:2000]}")

    def text(self, name: str) -> str:
        """Of what has this id; empty where it shows nothing."""
        try:
            return str(self.find(f"#{name}").text)
        except StopIteration:
            return ""

    def shows(self, name: str, text: str) -> str:
        """The text of what has this id, once it holds `text`."""
        self.wait(lambda: text in self.text(name), f"{text!r} in #{name}: {self.text(name)!r}")
        return self.text(name)

    def click(self, selector: str) -> None:
        """As with the mouse."""
        self.clicks += 1

        def done() -> bool:
            element = self.find(selector)
            self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
            if not element.is_enabled():
                return False
            element.click()
            return True

        self.wait(done, f"{selector} can be clicked")

    def tab(self, name: str) -> None:
        """Open a page."""
        self.clicks += 1

        def done() -> bool:
            tabs = self.driver.find_elements(By.CSS_SELECTOR, "button[role=tab]")
            next(tab for tab in tabs if tab.text == name).click()
            return True

        self.wait(done, f"the tab {name}")

    def busy(self) -> bool:
        """Whether gradio shows that it waits, or something is still drawn."""
        script = "return document.getAnimations().some(a => a.playState === 'running')"
        return bool(self.driver.execute_script(script))

    def settled(self) -> None:
        """Wait until the server has answered everything that was asked, and no answer asks more."""
        quiet = "return window.unanswered.size === 0 && Date.now() - window.answered > 300"
        try:
            self.wait(lambda: self.driver.execute_script(quiet), "everything is answered")
        except AssertionError as error:
            waiting = self.driver.execute_script("return [...window.unanswered]")
            raise AssertionError(f"no answer to {waiting}") from error

    @contextmanager
    def far_away(self, milliseconds: int) -> Iterator[None]:
        """For a while, a server whose answers take so long."""
        self._slow_down(milliseconds)
        try:
            yield
        finally:
            self._slow_down(0)

    def _slow_down(self, milliseconds: int) -> None:
        conditions = {"offline": False, "downloadThroughput": -1, "uploadThroughput": -1}
        self.driver.execute_cdp_cmd("Network.enable", {})
        self.driver.execute_cdp_cmd(
            "Network.emulateNetworkConditions", {**conditions, "latency": milliseconds}
        )

    def cut_off(self) -> list[str]:
        """What cannot be seen, because it lies beside the window; and the page, if it scrolls."""
        found: list[str] = self.driver.execute_script(_CUT_OFF)
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        if self.driver.execute_script(f"return {wide}") > 0:
            found.append("the page")
        return found

    def fill(self, name: str, text: str) -> None:
        """Replace what a field holds."""
        field = self.wait(
            lambda: self.find(f"#{name} textarea, #{name} input"), f"the field #{name}"
        )
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", field)
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(Keys.DELETE)
        # At once, as pasted: a key stroke for each letter takes seconds.
        self.driver.execute_cdp_cmd("Input.insertText", {"text": text})
        self.wait(lambda: self.value(name) == text, f"#{name} holds {text!r}")

    def value(self, name: str) -> str:
        """What a field holds."""
        return str(self.find(f"#{name} textarea, #{name} input").get_attribute("value"))

    def holds(self, name: str, text: str) -> None:
        """Wait until a field holds `text` among others."""
        self.wait(lambda: text in self.value(name), f"{text!r} in #{name}")

    def keys(self, *keys: str) -> None:
        """Typed to whatever has the focus."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def screenshot(self, name: str) -> None:
        """For people to look at, in .cache/screenshots."""
        folder = AXE.parents[1] / "screenshots"
        folder.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(folder / f"ui-{name}.png"))

    def serious_findings(self) -> list[str]:
        """What axe-core finds on what is shown now, of serious and critical impact."""
        self.driver.execute_script(AXE.read_text(encoding="utf-8"))
        report = self.driver.execute_async_script(
            "axe.run(document, {resultTypes: ['violations']}).then(arguments[0])"
        )
        return [
            f"{found['id']}: {found['nodes'][0]['html'][:200]}"
            for found in report["violations"]
            if found["impact"] in ("serious", "critical")
        ]

    def check(self, url: str) -> None:
        """No request went to another host, and the console has no error."""
        own = urlsplit(url).netloc
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                asked = message["params"]["request"]["url"]
                if urlsplit(asked).scheme not in ("data", "blob"):
                    assert urlsplit(asked).netloc == own, asked
        said = self.driver.get_log("browser")
        assert [entry for entry in said if entry["level"] in ("SEVERE", "WARNING")] == []


@contextmanager
def browser(size: tuple[int, int] = WIDE) -> Iterator[Browser]:
    """A fresh one."""
    os.environ.setdefault("SE_AVOID_STATS", "true")  # selenium reports to its maker, too
    os.environ.setdefault("SE_OFFLINE", "true")
    opened = Browser(size)
    try:
        yield opened
    finally:
        opened.driver.quit()
