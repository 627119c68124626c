"""A real Chromium for tests: the system's, and tabs that remember whatever went wrong in them."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox",  # containers run as root
    "--no-proxy-server",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WAIT_MS = 30_000  # of a slow machine, for one step
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1200, "height": 900}


def chromium() -> str:
    """The path of the system's browser; without one the test is skipped, or fails where CI=true."""
    found = next((path for name in NAMES if (path := shutil.which(name)) is not None), None)
    if found is None:
        reason = f"none of {', '.join(NAMES)} is installed (apt install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    """A browser without a window."""
    path = chromium()
    async with async_playwright() as playwright:
        found = await playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield found
        finally:
            await found.close()


@dataclass(slots=True)
class Tab:
    """A page of a context of its own. `faults`: console errors, exceptions, requests to anybody but us.

    `expected`: parts of console errors that the test itself brings about.
    """

    page: Page
    url: str
    expected: tuple[str, ...] = ()
    faults: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Begin to remember."""
        self.page.set_default_timeout(WAIT_MS)
        self.page.on("console", lambda message: self._say(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self._say(str(error)))
        self.page.on(
            "request",
            lambda asked: None if asked.url.startswith((self.url, "blob:", "data:")) else self.faults.append(asked.url),
        )

    def _say(self, text: str) -> None:
        if not any(part in text for part in self.expected):
            self.faults.append(text)

    async def inaccessible(self) -> list[str]:
        """What axe-core finds serious or critical, one line each."""
        found = (await Axe().run(self.page)).response["violations"]
        return [
            f"{item['id']} ({item['impact']}): {item['help']}: {[node['html'][:160] for node in item['nodes']]}"
            for item in found
            if item["impact"] in ("serious", "critical")
        ]

    async def too_wide(self) -> list[str]:
        """Elements that stand out of the window, where it scrolls sideways."""
        found: list[str] = await self.page.evaluate(
            """() => document.documentElement.scrollWidth <= innerWidth ? [] :
                [...document.body.querySelectorAll("*")]
                    .filter((item) => item.getBoundingClientRect().right > innerWidth)
                    .map((item) => item.outerHTML.slice(0, 120)).concat(String(document.documentElement.scrollWidth))"""
        )
        return found


@asynccontextmanager
async def tab(browser: Browser, url: str, expected: tuple[str, ...] = (), **context: Any) -> AsyncIterator[Tab]:
    """A tab at `url`; at the end nothing may have gone wrong in it."""
    made = await browser.new_context(**({"viewport": DESK} | context))
    found = Tab(await made.new_page(), url, expected)
    found.watch()
    try:
        await found.page.goto(url)
        yield found
        assert found.faults == []
    finally:
        await made.close()
