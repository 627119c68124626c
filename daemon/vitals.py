"""What monitoring asks over HTTP: /metrics, /healthz, /readyz, and /overview for `longwatch status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from daemon.http import Part
from daemon.overview import overview, stuck
from daemon.prometheus import CONTENT_TYPE, exposition

if TYPE_CHECKING:
    from daemon.app import App


def part(app: App) -> Part:
    """Health and readiness need no token: they say nothing that is seen. Metrics name the cameras."""

    async def metrics(_: Request) -> Response:
        text = exposition(overview(app), app.counters)
        return Response(text, headers={"content-type": CONTENT_TYPE})

    async def health(_: Request) -> Response:
        """503 when a part that should move does not; a dead camera's reader moves, trying again."""
        found = stuck(app)
        return JSONResponse({"status": "stuck" if found else "ok", "stuck": len(found)}, 503 if found else 200)

    async def ready(_: Request) -> Response:
        """503 until questions can be answered. A missing broker is said: cameras are watched without it."""
        running = app.engine.running
        body = {"status": "ready" if running else "not ready", "engine": running, "broker": app.link.state.connected}
        return JSONResponse(body, 200 if running else 503)

    async def everything(_: Request) -> Response:
        return Response(overview(app).model_dump_json(), media_type="application/json")

    routes = [
        Route("/metrics", metrics),
        Route("/healthz", health),
        Route("/readyz", ready),
        Route("/overview", everything),
    ]
    return Part(routes, public=("/healthz", "/readyz"))
