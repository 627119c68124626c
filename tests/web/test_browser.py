"""The page in a real browser: words arrive, evidence opens, the timeline zooms, a phone is wide enough, no errors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from daemon.demo.broker import free_port
from stream.model.llava_onevision import LlavaOnevision
from tests.daemon.recalling import small_model
from tests.system.untrained import say_something
from tests.web.browsing import PHONE, Tab, browsing, tab
from tests.web.running import TOKEN, House, at_home

pytestmark = [pytest.mark.system, pytest.mark.asyncio(loop_scope="module")]
WORDS = {"answer": {"max_tokens": 24, "min_support": 0, "evidence": 2, "deadline_s": 60}}
LENGTHS_S = [60, 600, 3600, 21_600, 86_400, 604_800]  # minute to week


@pytest.fixture(scope="module")
def model() -> LlavaOnevision:
    """Random, but it writes until it has to stop."""
    found = small_model()
    say_something(found.net, found.tokenizer)
    return found


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def house(model: LlavaOnevision, tmp_path: Path) -> AsyncIterator[House]:
    async with at_home(model, tmp_path, **WORDS) as found:
        yield found


async def ask(page: Page, question: str = "what is visible now?", camera: str = "door") -> None:
    """Through the form; returns when the answer is whole."""
    await page.wait_for_selector(f"#ask-camera option[value={camera}]", state="attached")
    await page.select_option("#ask-camera", camera)
    await page.fill("#question", question)
    await page.press("#question", "Enter")
    await answered(page)


async def answered(page: Page) -> None:
    await page.wait_for_selector("#answer[aria-busy=false] #answer-about:not(:empty)")


async def everything(found: Tab) -> None:
    """All parts of the page filled: pictures, an answer with evidence, a timeline and a moment of it."""
    await found.page.wait_for_selector("#cameras img[src]")
    await ask(found.page)
    await found.page.wait_for_selector("#evidence img[src]")
    await found.page.wait_for_selector("#time-cursor", state="attached")
    await found.page.focus("#time")
    await found.page.keyboard.press("Enter")
    await found.page.wait_for_selector("#moment-ask:visible")
    await found.page.wait_for_selector("#health dd")


async def test_words_arrive_one_after_the_other(house: House, browser: Browser) -> None:
    await house.feed(4)
    async with tab(browser, house.url) as found:
        await found.page.wait_for_selector("#cameras img[src]")
        await found.page.evaluate(
            """() => { window.seen = [];
                const text = document.getElementById("answer-text");
                new MutationObserver(() => { if (document.getElementById("answer").ariaBusy === "true")
                    seen.push(text.textContent.length); }).observe(text, {childList: true}); }"""
        )
        await ask(found.page)
        seen: list[int] = await found.page.evaluate("seen")
        assert seen == sorted(seen)
        assert len({length for length in seen if length}) >= 3
        assert "moments read" in await found.page.inner_text("#answer-about")


async def test_evidence_opens(house: House, browser: Browser) -> None:
    await house.feed(4)
    async with tab(browser, house.url) as found:
        page = found.page
        await page.wait_for_selector("#cameras img[src]")
        await ask(page)
        first = page.locator("#evidence button").first
        await first.locator("img[src]").wait_for()
        await first.click()
        assert await page.locator("#large").evaluate("dialog => dialog.open")
        assert await page.locator("#large-picture").evaluate("image => image.decode().then(() => image.naturalWidth)")
        assert "door" in await page.inner_text("#large-about")
        assert await found.inaccessible() == []
        await page.click("#large button")
        assert not await page.locator("#large").evaluate("dialog => dialog.open")


async def shown_s(page: Page) -> float:
    """How long a time the slider is."""
    least, most = (float(await page.get_attribute("#time", f"aria-value{end}") or 0) for end in ("min", "max"))
    return most - least


async def test_the_timeline_zooms_from_a_minute_to_a_week(house: House, browser: Browser) -> None:
    now_s = time.time()
    await house.feed(6)
    house.app.gaps.down("door", now_s - 2000, "unreachable")
    house.app.gaps.up("door", now_s - 1000)
    async with tab(browser, house.url) as found:
        page = found.page
        await page.wait_for_selector("#time-svg .kept", state="attached")
        assert await page.locator("#time-svg .gap").count() == 1
        assert "1 times not seen" in await page.inner_text("#time-about")
        await page.focus("#time")
        for key, lengths in (("-", LENGTHS_S[3:]), ("+", LENGTHS_S[-2::-1])):
            for length_s in lengths:
                await page.keyboard.press(key)
                assert await page.input_value("#time-length") == str(length_s)
                await page.wait_for_function(
                    """(wanted) => { const slider = document.getElementById("time");
                        return Math.abs(slider.ariaValueMax - slider.ariaValueMin - wanted) <= 2; }""",
                    arg=length_s,
                )
        assert await page.locator("#time-svg .gap").count() == 0  # not within this minute
        await page.click("#time-earlier")
        assert await page.get_attribute("#time-now", "aria-pressed") == "false"
        await page.click("#time-now")
        await page.wait_for_selector("#time-svg .kept", state="attached")
        await page.focus("#time")
        await page.keyboard.press("End")
        await page.keyboard.press("Enter")
        await page.click("#moment-ask")
        await answered(page)
        assert "About door" in await page.inner_text("#ask-scope")


async def test_a_new_picture_comes_by_itself(house: House, browser: Browser) -> None:
    await house.feed(1)
    async with tab(browser, house.url) as found:
        shown = found.page.locator("#cameras img[src]")
        await shown.wait_for()
        before = await shown.get_attribute("src")
        await house.feed(1)
        await found.page.wait_for_function(
            "(before) => document.querySelector('#cameras img[src]').src !== before", arg=before
        )


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_everything_is_accessible(house: House, browser: Browser, scheme: Any) -> None:
    await house.feed(4)
    house.app.gaps.down("yard", time.time() - 100, "unreachable")
    async with tab(browser, house.url, color_scheme=scheme) as found:
        await everything(found)
        assert await found.inaccessible() == []
        ground = await found.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light")


async def test_a_phone_is_wide_enough(house: House, browser: Browser) -> None:
    await house.feed(4)
    async with tab(browser, house.url, viewport=PHONE, has_touch=True, is_mobile=True) as found:
        await everything(found)
        assert await found.too_wide() == []
        assert await found.inaccessible() == []
        await found.page.locator("#evidence button").first.tap()
        assert await found.page.locator("#large").evaluate(
            "dialog => dialog.getBoundingClientRect().right <= innerWidth"
        )


async def focused(page: Page) -> str:
    found: str = await page.evaluate(
        "document.activeElement.id || document.activeElement.parentElement.parentElement.id"
    )
    return found


async def test_the_keyboard_is_enough(house: House, browser: Browser) -> None:
    await house.feed(4)
    async with tab(browser, house.url) as found:
        page = found.page
        await page.wait_for_selector("#cameras img[src]")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")  # the link over all that is before the question
        await page.keyboard.type("what is visible now?")
        assert await focused(page) == "question"
        await page.keyboard.press("Enter")
        await answered(page)
        assert await page.locator("#answer-text").evaluate("text => text.closest('[aria-live=polite]').id") == "answer"
        for _ in range(6):
            if await focused(page) == "evidence":
                break
            await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        assert await page.locator("#large").evaluate("dialog => dialog.open")
        await page.keyboard.press("Escape")
        assert not await page.locator("#large").evaluate("dialog => dialog.open")
        assert await focused(page) == "evidence"  # back where it was opened
        for _ in range(20):
            if await focused(page) == "time":
                break
            await page.keyboard.press("Tab")
        before = await page.get_attribute("#time", "aria-valuenow")
        await page.keyboard.press("ArrowLeft")
        assert await page.get_attribute("#time", "aria-valuenow") != before
        await page.keyboard.press("Enter")
        await page.wait_for_selector("#moment-ask:visible")


async def test_a_wrong_token_is_refused_and_the_right_one_opens(
    model: LlavaOnevision, tmp_path: Path, browser: Browser
) -> None:
    async with (
        at_home(model, tmp_path, TOKEN) as house,
        tab(browser, house.url, ("status of 401",), viewport=PHONE) as found,
    ):
        page = found.page
        await page.wait_for_selector("#token")
        assert await found.inaccessible() == []
        assert await found.too_wide() == []
        await page.fill("#token", "a wrong token")
        await page.press("#token", "Enter")
        await page.wait_for_selector("#wrong:has-text('not the token')")
        await page.goto(house.url)
        await page.fill("#token", TOKEN)  # still the form
        await page.press("#token", "Enter")
        await page.wait_for_selector("#cameras li")
        await page.reload()
        await page.wait_for_selector("#cameras li")


async def test_the_page_goes_on_when_the_daemon_comes_back(
    model: LlavaOnevision, tmp_path: Path, browser: Browser
) -> None:
    port = free_port()
    gone = ("net::ERR_", "status of 50")  # what a browser says of a server that is not there
    async with at_home(model, tmp_path, port=port) as house:
        await house.feed(2)
        url = house.url
        opened = tab(browser, url, gone)
        found = await opened.__aenter__()
        await found.page.wait_for_selector("#cameras img[src]")
    await found.page.wait_for_selector("#summary:has-text('not connected')")
    await asyncio.sleep(0)
    async with at_home(model, tmp_path, port=port) as house:
        await found.page.wait_for_selector("#summary:has-text('of 2 cameras')")
        await house.feed(2)
        await ask(found.page)
        assert "error" not in (await found.page.get_attribute("#answer", "class") or "")
        await opened.__aexit__(None, None, None)
