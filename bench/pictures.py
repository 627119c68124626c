"""Takes the pictures of the page in docs/pictures: a daemon with the shipped model watches two drawn streets.

    python bench/pictures.py [--seconds 120] [--folder docs/pictures]

The page is the running one: it is asked, zoomed and scrolled like by a person, in light, in dark and on a phone.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.async_api import Browser, Page
from web import daemon, ready

from tests.web.browsing import PHONE, browsing

COLOURS = 256  # of a picture's palette: small files, and text stays sharp
KEPT_COLOURS = 96  # of these, the most frequent ones as they are
DIARY = {"longest_s": 20.0}  # something always moves in these streets: a line for each so long a time of it
QUESTION = "what passed last?"
LOOKS: dict[str, dict[str, Any]] = {
    "page-light": {"viewport": {"width": 1120, "height": 800}, "color_scheme": "light"},
    "page-dark": {"viewport": {"width": 1120, "height": 800}, "color_scheme": "dark"},
    "page-phone": {"viewport": PHONE, "color_scheme": "light", "is_mobile": True},
}


def small(picture: Image.Image) -> Image.Image:
    """`picture` in few colours: the page's own, which are frequent, stay as they are; the others become the nearest."""
    colours, places, counts = np.unique(
        np.asarray(picture).reshape(-1, 3), axis=0, return_inverse=True, return_counts=True
    )
    frequent = colours[np.argsort(-counts)[:KEPT_COLOURS]]
    more = COLOURS - KEPT_COLOURS
    rare: Any = picture.quantize(more, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).getpalette()
    palette = np.concatenate([frequent, np.array(rare[: 3 * more], np.uint8).reshape(-1, 3)])
    apart = [np.square(palette.astype(np.int32) - colour).sum(1).argmin() for colour in colours.astype(np.int32)]
    found = Image.fromarray(np.array(apart, np.uint8)[places.reshape(-1)].reshape(picture.height, picture.width), "P")
    found.putpalette(palette.reshape(-1).tolist())
    return found


async def use(page: Page) -> None:
    """What a person does: ask, look at the last minutes, open what a standing question found."""
    await page.wait_for_selector("#cameras li:nth-child(2) img[src]")
    await page.select_option("#ask-camera", "door")
    await page.fill("#question", QUESTION)
    await page.press("#question", "Enter")
    await page.wait_for_selector("#answer[aria-busy=false] #answer-about:not(:empty)")
    await page.wait_for_selector("#evidence img[src]")
    await page.select_option("#time-length", "600")
    await page.focus("#time")
    await page.keyboard.press("End")
    await page.keyboard.press("PageDown")
    await page.keyboard.press("Enter")
    await page.wait_for_selector("#moment-ask:visible")
    await page.wait_for_selector("#diary-lines li")
    await page.wait_for_selector("#health dd")
    if page.viewport_size != PHONE:  # a phone's picture is long enough without it
        await page.click("[data-watch=gate_open] [data-action=history]")
        await page.wait_for_selector("[data-watch=gate_open] li[data-event] img[src]")
    await page.wait_for_timeout(1500)
    await page.evaluate("() => { document.activeElement.blur(); scrollTo(0, 0); }")


async def take(browser: Browser, url: str, path: Path, look: dict[str, Any]) -> None:
    """One picture of the whole page."""
    context = await browser.new_context(**look)
    page = await context.new_page()
    await page.goto(url)
    await use(page)
    print(f"{QUESTION} {await page.inner_text('#answer-text')}")
    picture = Image.open(io.BytesIO(await page.screenshot(full_page=True))).convert("RGB")
    await context.close()
    target = io.BytesIO()
    small(picture).save(target, "PNG", optimize=True)
    await asyncio.to_thread(path.write_bytes, target.getvalue())
    print(f"{path}: {picture.width} x {picture.height} px, {len(target.getvalue()) / 1000:.0f} kB")


async def run(url: str, seconds: float, folder: Path) -> None:
    """All of them, when the daemon has seen something."""
    await ready(url)
    await asyncio.sleep(seconds)
    async with browsing() as browser:
        for name, look in LOOKS.items():
            await take(browser, url, folder / f"{name}.png", look)


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=120.0, help="of watching before the first picture")
    parser.add_argument("--folder", type=Path, default=Path("docs/pictures"))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, daemon(Path(folder), diary=DIARY) as (url, _):
        asyncio.run(run(url, arguments.seconds, arguments.folder))


if __name__ == "__main__":
    main()
