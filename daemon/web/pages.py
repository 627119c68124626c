"""The page itself: five files, read once, with a policy that lets the browser talk to nobody else."""

from __future__ import annotations

import hashlib
from base64 import b64encode
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
    "/static/diary.js": "diary.js",
    "/static/style.css": "style.css",
}
_MEDIA = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
_LINK = b'<link rel="stylesheet" href="/static/style.css">'
_POLICY = (
    "default-src 'none'; script-src 'self'; {style}; connect-src 'self';"
    " img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Page:
    """A file as it is sent."""

    data: bytes
    media: str
    policy: str

    async def send(self, request: Request) -> Response:
        """It, or 304."""
        tag = f'"{hashlib.blake2b(self.data, digest_size=8).hexdigest()}"'
        headers = {"ETag": tag, **_HEADERS, "Content-Security-Policy": self.policy}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(self.data, headers=headers, media_type=self.media)


def pages(folder: Path = FOLDER) -> list[Route]:
    """A route for each file. The page has its style within: a request less before anything is painted."""
    style, found = (folder / "style.css").read_bytes(), list[Route]()
    own = f"style-src 'self' 'sha256-{b64encode(hashlib.sha256(style).digest()).decode()}'"
    for path, name in _FILES.items():
        file = folder / name
        data = file.read_bytes().replace(_LINK, b"<style>" + style + b"</style>")
        found.append(Route(path, Page(data, _MEDIA[file.suffix], _POLICY.format(style=own)).send, methods=["GET"]))
    return found
