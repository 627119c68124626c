"""The page in a real browser: words arrive, evidence opens, the timeline zooms, a phone is wide enough, no errors."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.web.running import TOKEN, House, at_home

CHROMIUM = shutil.which("chromium")
api = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(CHROMIUM is None, reason="no `chromium` here: apt-get install chromium"),
]
ARGUMENTS = ["--no-sandbox", "--no-proxy-server"]  # containers run as root


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Any]:
    async with api.async_playwright() as playwright:
        found = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield found
        await found.close()


async def open_page(browser: Any, url: str, **context: Any) -> tuple[Any, list[str]]:
    page, faults = await (await browser.new_context(**context)).new_page(), list[str]()
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "request", lambda asked: faults.append(asked.url) if not asked.url.startswith((url, "blob:", "data:")) else None
    )
    await page.goto(url)
    return page, faults


@pytest.mark.parametrize("width", [1200, 375])
async def test_ask_look_and_zoom(house: House, browser: Any, width: int) -> None:
    await house.feed(6)
    page, faults = await open_page(browser, house.url, viewport={"width": width, "height": 800})
    await page.wait_for_selector("#cameras img[src]")
    await page.select_option("#ask-camera", "door")
    await page.fill("#question", "what is visible now?")
    await page.press("#question", "Enter")
    await page.wait_for_selector("#evidence img[src]")
    assert "moments read" in await page.inner_text("#answer-about")
    await page.locator("#evidence button").first.click()
    assert await page.locator("#large").evaluate("dialog => dialog.open")
    await page.click("#large button")
    await page.wait_for_selector("#time-cursor", state="attached")
    await page.focus("#time")
    await page.keyboard.press("+")
    assert await page.input_value("#time-length") == "600"
    await page.keyboard.press("Enter")
    await page.click("#moment-ask")
    await page.wait_for_selector("#answer[aria-busy=false]")
    assert "About door" in await page.inner_text("#ask-scope")
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert faults == []


async def test_the_token_form(model: Any, tmp_path: Path, browser: Any) -> None:
    async with at_home(model, tmp_path, TOKEN) as house:
        page, _ = await open_page(browser, house.url)  # a 401 is an error in the console
        await page.fill("#token", "a wrong token")
        await page.press("#token", "Enter")
        await page.wait_for_selector("#wrong:has-text('not the token')")
        await page.fill("#token", TOKEN)
        await page.press("#token", "Enter")
        await page.wait_for_selector("#cameras li")
