"""The page's files: small, whole, of this daemon alone, and in the package."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from daemon.web.pages import FOLDER
from tests.web.running import House

ROOT = Path(__file__).resolve().parents[2]
MAX_BYTES = 150_000


async def test_the_page_and_its_files_are_served(house: House) -> None:
    page = await house.client.get("/")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    total = len(page.content)
    for path in re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text):
        reply = await house.client.get(path)
        assert reply.status_code == 200
        total += len(reply.content)
        again = await house.client.get(path, headers={"If-None-Match": reply.headers["etag"]})
        assert again.status_code == 304
    assert total < MAX_BYTES


def test_nothing_is_asked_of_anybody_else() -> None:
    for path in FOLDER.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|url\(|@import|innerHTML|eval\(", text), path.name


def test_every_id_that_the_script_wants_is_in_the_page() -> None:
    page = (FOLDER / "index.html").read_text(encoding="utf-8")
    script = "".join(path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.js")))
    ids = re.findall(r'\bid="([\w-]+)"', page)
    assert len(ids) == len(set(ids))
    wanted = set(re.findall(r'\$\("([\w-]+)"\)', script)) - {"time-cursor"}  # which the script makes
    assert wanted <= set(ids)
    for field in re.findall(r'<(?:input|select)[^>]* id="([\w-]+)"|<(?:input|select) id="([\w-]+)"', page):
        assert f'<label for="{field[0] or field[1]}"' in page


def test_the_files_are_in_the_package() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    assert "daemon" in wheel["wheel"]["packages"]  # with all its files
    assert {path.name for path in FOLDER.iterdir()} == {
        "index.html",
        "login.html",
        "app.js",
        "watch.js",
        "diary.js",
        "style.css",
    }
