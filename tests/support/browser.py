"""A real browser: headless Chromium, controlled by chromedriver."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    # Imported here: it is large, and only the tests of pages need it.
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

Found = TypeVar("Found")

PATIENCE_SECONDS = 30.0
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --no-proxy-server --window-size=1280,1600"
).split()


class Browser:
    """A page as a person sees and uses it, and the requests that it sends."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        self.driver.get(url)

    def wait_for(self, what: Callable[[], Found | None], description: str) -> Found:
        """Waits until something is found, and returns it."""
        from selenium.common.exceptions import StaleElementReferenceException  # noqa: PLC0415 - see above

        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                found = what()
            except StaleElementReferenceException:
                found = None
            if found:
                return found
            assert time.monotonic() < deadline, f"{description}; the page says:\n{self.text()[:3000]}"
            # Pause between two polls; its length does not matter.
            time.sleep(0.05)

    def element(self, selector: str, text: str = "") -> WebElement:
        """Waits for a visible element that matches the selector and contains the text."""

        def look() -> WebElement | None:
            for one in self.driver.find_elements("css selector", selector):
                if one.is_displayed() and text in one.text:
                    return one
            return None

        return self.wait_for(look, f"no {selector} with {text!r}")

    def click(self, selector: str, text: str = "") -> None:
        one = self.element(selector, text)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", one)
        one.click()

    def text(self) -> str:
        return self.driver.find_element("tag name", "body").text

    def run(self, script: str) -> Any:
        """Runs `script` in the page, as the body of an asynchronous function. Returns its result."""
        wrapped = f"const done = arguments[0]; (async () => {{ {script} }})().then(done, (e) => done('failed: ' + e));"
        return self.driver.execute_async_script(wrapped)

    def complaints(self) -> list[str]:
        """Errors and warnings on the console since the last call."""
        entries: Any = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    def hosts_asked(self) -> set[str]:
        """Host and port of every request since the last call."""
        entries: Any = self.driver.get_log("performance")  # type: ignore[no-untyped-call]
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        urls = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
        return {urlsplit(url).netloc for url in urls if not url.startswith(("data:", "blob:"))}


@contextmanager
def browser() -> Iterator[Browser]:
    """Skips the test if there is no browser; fails it in CI, where there must be one."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        assert "CI" not in os.environ, "chromium and chromedriver are not installed"
        pytest.skip("chromium and chromedriver are not installed: apt-get install chromium chromium-driver")
    from selenium.webdriver import Chrome, ChromeOptions  # noqa: PLC0415 - see above
    from selenium.webdriver.chrome.service import Service  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="test-browser-") as folder:
        options = ChromeOptions()
        options.binary_location = program
        for flag in (*FLAGS, f"--user-data-dir={folder}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        started = Chrome(options, Service(driver))
        try:
            yield Browser(started)
        finally:
            started.quit()
