"""What the HTTP server serves, brought together, and taken down in the order that lets it end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from daemon import vitals
from daemon.http import HttpServer, make_key
from daemon.web.site import Site
from stream.errors import ConfigError

if TYPE_CHECKING:
    from daemon.app import App


async def serve(app: App) -> None:
    """Until cancelled. Nothing here takes the daemon down: without HTTP it watches and answers all the same."""
    if not app.settings.http.enabled:
        return
    try:
        key = make_key(app.settings.http)
    except ConfigError as error:
        app.log.error("nothing is served over HTTP", reason=str(error))
        return
    site = Site(app, key)
    server = HttpServer(app.settings.http, [vitals.part(app), site.part], key, app.counters)
    task = asyncio.create_task(server.run(), name="http-server")
    try:
        await asyncio.shield(task)
    finally:
        await site.close()  # its streams of events would hold the server up
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
