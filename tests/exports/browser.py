"""A headless Chromium, driven through selenium, where the machine has both it and its driver."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser with a window of 1280 by 900; skips the test where there is none."""
    driver = shutil.which("chromedriver")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if driver is None or program is None:
        pytest.skip("there is no Chromium with its driver (apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    quiet = ("--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage", "--mute-audio")
    for one in ("--headless=new", "--no-sandbox", "--no-first-run", *quiet):
        options.add_argument(one)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield browser
    finally:
        browser.quit()


def show(browser: Any, width: int, height: int, scheme: str = "light") -> None:
    """Give the page a size and a colour scheme, as a telephone has them."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
