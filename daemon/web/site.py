"""Page and API of one running daemon, ready to be served: `part`, and what must end with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.guard import LOGIN, Key
from daemon.http import Part
from daemon.web.api import Api
from daemon.web.asking import Asking
from daemon.web.house import House
from daemon.web.login import Login
from daemon.web.pages import pages
from daemon.web.viewers import Viewers

if TYPE_CHECKING:
    from daemon.app import App


class Site:
    """Make it on the event loop, after the app's keeper was opened."""

    def __init__(self, app: App, key: Key) -> None:
        self.house = House(app)
        self.viewers = Viewers(self.house)
        asking = Asking(app.link.desk, app.ask)
        self.api = Api(self.house, asking, self.viewers, app.settings.mqtt.max_payload_bytes)
        self.part = Part([self.api.mount(), *pages(), *Login(key).routes()], (LOGIN, "/static/"))

    async def close(self) -> None:
        """End event streams, so that the server can stop; then reading from the archive."""
        await self.viewers.close()
        await self.house.close()
