"""The page itself: four files, read once, with a policy that lets the browser talk to nobody else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FOLDER = Path(__file__).parent / "static"
_FILES = {
    "/": "index.html",
    "/static/app.js": "app.js",
    "/static/watch.js": "watch.js",
    "/static/style.css": "style.css",
}
_MEDIA = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Page:
    """A file as it is sent."""

    data: bytes
    media: str

    async def send(self, request: Request) -> Response:
        """It, or 304."""
        tag = f'"{hashlib.blake2b(self.data, digest_size=8).hexdigest()}"'
        headers = {"ETag": tag, **_HEADERS}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(self.data, headers=headers, media_type=self.media)


def pages(folder: Path = FOLDER) -> list[Route]:
    """A route for each file."""
    found = []
    for path, name in _FILES.items():
        file = folder / name
        found.append(Route(path, Page(file.read_bytes(), _MEDIA[file.suffix]).send, methods=["GET"]))
    return found
