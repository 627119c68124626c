"""The form for the token: works without a script, and leaves a cookie that opens page, API and pictures."""

from __future__ import annotations

import asyncio
from html import escape
from pathlib import Path
from string import Template
from urllib.parse import parse_qs, quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from daemon.guard import LOGIN, Key
from daemon.web.pages import FOLDER

WRONG_S = 0.5  # that a wrong token costs
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",  # else the form comes from origin `null`, which the guard refuses
}


class Login:
    """`GET` shows the form, `POST` takes the token and goes on to where the reader wanted to be."""

    def __init__(self, key: Key, folder: Path = FOLDER) -> None:
        self._key = key
        self._form = Template((folder / "login.html").read_text(encoding="utf-8"))

    def routes(self) -> list[Route]:
        """Both."""
        return [Route(LOGIN, self.show, methods=["GET"]), Route(LOGIN, self.take, methods=["POST"])]

    async def show(self, request: Request) -> Response:
        """The form, or the page where no token is needed."""
        if self._key.admits(request.headers):
            return RedirectResponse(_target(request), 303, headers=_HEADERS)
        return self._page(request, "", 200)

    async def take(self, request: Request) -> Response:
        """The token as a form sends it. The guard in front bounds the body."""
        fields = parse_qs((await request.body()).decode("utf-8", "replace"))
        if not self._key.fits(fields.get("token", [""])[0].strip()):
            await asyncio.sleep(WRONG_S)
            return self._page(request, "That is not the token.", 401)
        found = RedirectResponse(_target(request), 303, headers=_HEADERS)
        self._key.log_in(found)
        return found

    def _page(self, request: Request, problem: str, status: int) -> Response:
        action = escape(f"{LOGIN}?next={quote(_target(request))}")
        text = self._form.substitute(action=action, problem=escape(problem))
        return Response(text, status, headers=_HEADERS, media_type="text/html")


def _target(request: Request) -> str:
    """Where to go on to: a path of ours, never another site."""
    found = request.query_params.get("next", "/")
    plain = found.isascii() and found.isprintable() and not set(found) & set("\\ ")
    return found if plain and found.startswith("/") and not found.startswith(("//", LOGIN)) else "/"
