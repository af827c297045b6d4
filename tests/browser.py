"""The system's Chromium without a window, for tests of pages; conftest.py hands its fixture `browser_page` on.

A test that asks for it is skipped, with the reason, where there is no browser or no Playwright.
"""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def _browser() -> Iterator[Any]:
    """One browser for the tests of a file.

    Playwright keeps an asyncio loop running while it is started, and others could not start theirs: a notebook's tests
    among them. It ends with the file's last test.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="no package playwright: pip install playwright")
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as driver:
        # Containers run as root and have little /dev/shm.
        browser = driver.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture
def browser_page(_browser: Any) -> Iterator[Any]:
    """A fresh page of Playwright (`goto(path.as_uri())`, `click`, `evaluate`), 1280 pixels wide.

    Afterwards the test fails if the page asked for anything beyond its own file, or a script of it failed.
    """
    context = _browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page = context.new_page()
    page.set_default_timeout(10_000)
    asked: list[str] = []
    failed: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.on("console", lambda message: failed.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    outside = [url[:200] for url in asked if not url.startswith(("file:", "data:", "blob:"))]
    assert not outside, f"the page asked for {outside}"
    assert not failed, f"scripts of the page failed: {failed}"
