"""A standing question in a real browser: added in the form, it fires on the drawn street, is looked up and removed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from stream.model.loading import open_model
from stream.train.film import film
from stream.train.script import Style
from stream.train.world import Street
from tests.web.browsing import PHONE, Tab, browsing, tab
from tests.web.running import House, at_home

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
QUESTION = "is the gate open?"  # the shipped model is never wrong about it by day
SEED, FILM_S = 245, 14.0  # the gate opens after 5 s
FIRES_MS = 90_000  # the film goes round, so it opens again and again


@asynccontextmanager
async def street(folder: Path) -> AsyncIterator[House]:
    """A daemon with the shipped model, which sees a film of the street as it sees a camera."""
    path = folder / "street.mp4"
    drawn = Street(SEED, FILM_S, Style(lights=("day",), weather=False, fixtures=("gate",), burst=0, meet=0, parcels=0))
    await asyncio.to_thread(film, drawn, path, (320, 180), 5)
    model = await asyncio.to_thread(open_model, "tiny")
    async with at_home(model, folder / "memory", cameras={"street": {"url": str(path)}}) as house:
        source = house.app.posts["street"].source
        source.start()
        try:
            yield house
        finally:
            await asyncio.to_thread(source.stop)


async def add(page: Page) -> None:
    """By keyboard alone."""
    await page.focus("#watch-new")
    await page.keyboard.press("Enter")
    await expect(page.locator("#w-question")).to_be_focused()
    await page.keyboard.type(QUESTION)
    assert await page.input_value("#w-name") == "gate_open"  # suggested
    await page.keyboard.press("Enter")
    await page.wait_for_selector("#watches li[data-watch=gate_open]")


async def fires(found: Tab) -> None:
    """It is told at once, without a look at the history; the card says the same, and that goes with a picture."""
    page = found.page
    await page.wait_for_selector("#watch-news p[data-type=new]", timeout=FIRES_MS)
    assert QUESTION in await page.inner_text("#watch-news p[data-type=new]")
    card = page.locator("#watches li[data-watch=gate_open]")
    await card.locator("[data-action=history]").click()
    await card.locator("li[data-event] img[src]").first.wait_for()
    assert await found.inaccessible() == []
    await page.wait_for_selector("#watch-news p[data-type=end]", timeout=FIRES_MS)  # closed, as the film begins anew
    await card.locator("li[data-event][data-open=false]").first.wait_for()


async def test_a_standing_question_fires_on_the_street(tmp_path: Path) -> None:
    async with browsing() as browser, street(tmp_path) as house, tab(browser, house.url) as found:
        page = found.page
        await page.wait_for_selector("#cameras img[src]")
        await add(page)
        await fires(found)
        await found.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
        assert await found.too_wide() == []
        await page.click("[data-watch=gate_open] [data-action=edit]")
        await page.click("#watch-advanced summary")
        assert await found.too_wide() == []
        assert await found.inaccessible() == []
        await page.click("#watch-cancel")
        await page.click("[data-watch=gate_open] [data-action=remove]")
        await page.click("#watch-undo")
        await page.wait_for_selector("[data-watch=gate_open]")
        await page.click("[data-watch=gate_open] [data-action=remove]")
        await page.wait_for_selector("#watch-none:visible")
        assert (await house.get("/watch")).json() == {"watches": []}
