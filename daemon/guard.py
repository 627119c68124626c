"""Who may come in over HTTP, and what every response says to browsers. In front of every route.

A token where there is one: `Authorization: Bearer TOKEN`, or the cookie that a login sets. Without one only this
machine is served, under a name of this machine: else any page in a browser here could read the cameras by rebinding
its DNS.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daemon.metrics import Counters

COOKIE = "longwatch"
LOGIN = "/login"
MAX_BODY_BYTES = 65_536
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
}
_OURS = ("localhost", "127.0.0.1", "::1")


class Key:
    """The token, or none. Comparing takes the same time whatever was given."""

    def __init__(self, token: str | None) -> None:
        self._token = token
        self.cookie = hmac.new((token or "").encode(), b"longwatch cookie", hashlib.sha256).hexdigest()

    @property
    def needed(self) -> bool:
        """There is a token."""
        return self._token is not None

    def fits(self, token: str) -> bool:
        """It is the token."""
        return self._token is not None and hmac.compare_digest(token.encode(), self._token.encode())

    def admits(self, headers: Headers) -> bool:
        """A request with these headers may come in."""
        if not self.needed:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return (scheme.lower() == "bearer" and self.fits(given.strip())) or self._knows(headers.get("cookie", ""))

    def _knows(self, cookies: str) -> bool:
        """The cookie is not the token itself, so that a stolen one opens nothing but this daemon's page."""
        try:
            morsel = SimpleCookie(cookies).get(COOKIE)
        except CookieError:
            return False
        return morsel is not None and hmac.compare_digest(morsel.value.encode(), self.cookie.encode())

    def log_in(self, response: Response) -> None:
        """Set the cookie, for a login form that was given the token."""
        month_s = 30 * 86_400
        response.set_cookie(COOKIE, self.cookie, max_age=month_s, path="/", httponly=True, samesite="strict")

    def log_out(self, response: Response) -> None:
        """Take the cookie back."""
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")


class Guard:
    """The middleware. `public`: paths without a token; one that ends in `/` is all below it."""

    def __init__(self, app: ASGIApp, key: Key, public: Sequence[str], counters: Counters) -> None:
        self._app, self._key, self._counters = app, key, counters
        self._exact = frozenset(path for path in public if not path.endswith("/"))
        self._below = tuple(path for path in public if path.endswith("/"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with our headers added to the response."""
        if scope["type"] != "http":
            return

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in {**_HEADERS, "cache-control": "no-store"}.items():
                    headers.setdefault(name, value)
            await send(message)

        refused = self._refusal(scope)
        if refused is None:
            await self._app(scope, receive, headed)
            return
        self._counters.count("http_refused", status=str(refused.status_code))
        await refused(scope, receive, headed)

    def _refusal(self, scope: Scope) -> Response | None:
        path, headers = str(scope["path"]), Headers(scope=scope)
        host = headers.get("host", "")
        if not self._key.needed and not _is_ours(host):
            way_out = "without http.token only this machine is served; use http://127.0.0.1, or set a token"
            return _refuse(403, f"host {host[:100]!r}: {way_out}")
        public = path in self._exact or path.startswith(self._below)
        if not public and not self._key.admits(headers):
            if scope["method"] == "GET" and LOGIN in self._exact and "text/html" in headers.get("accept", ""):
                return RedirectResponse(f"{LOGIN}?next={quote(path)}", 303)
            response = _refuse(401, "a token is needed: Authorization: Bearer TOKEN, the one of http.token")
            response.headers["www-authenticate"] = "Bearer"
            return response
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return None
        if (origin := headers.get("origin")) is not None and urlsplit(origin).netloc != host:
            return _refuse(403, f"origin {origin[:100]!r}: another site's page may not do this")
        return _too_large(headers)


def _is_ours(host: str) -> bool:
    try:
        return urlsplit(f"//{host}").hostname in _OURS
    except ValueError:
        return False


def _too_large(headers: Headers) -> Response | None:
    """A body says how long it is, and is short: nobody can fill the memory."""
    if "transfer-encoding" in headers:
        return _refuse(411, "a body needs a Content-Length")
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
        return _refuse(413, f"content-length {length[:20]}: at most {MAX_BODY_BYTES} bytes")
    return None


def _refuse(status: int, why: str) -> Response:
    return JSONResponse({"error": why}, status)
