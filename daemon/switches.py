"""Cameras switched on and off while the daemon runs: `<p>/<cam>/enabled/set` in, `<p>/<cam>/enabled/state` out."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog

from daemon.desk import Delivery
from daemon.metrics import Counters
from daemon.outbox import Outgoing
from daemon.topics import Topics

DISABLED = "disabled"  # reason of a camera that somebody switched off
WORDS = {b"ON": True, b"OFF": False}


class Switches:
    """Which cameras are off. `turn(camera, on)` does it, and says whether there is such a camera.

    A command that the broker keeps (retained) counts at the start, so that a camera stays off over a restart. After
    that only live ones do: the broker repeats a kept one on each connection, however old it is.
    """

    def __init__(
        self,
        topics: Topics,
        publish: Callable[[Outgoing], None],
        turn: Callable[[str, bool], bool],
        counters: Counters,
    ) -> None:
        self.off: set[str] = set()  # read by camera threads
        self._topics = topics
        self._publish = publish
        self._turn = turn
        self._counters = counters
        self._told: set[str] = set()  # cameras that had a command
        self._log = structlog.get_logger("longwatch.switches")

    def take(self, delivery: Delivery) -> None:
        """One command; what is not understood is counted, a line in the log, and changes nothing."""
        camera = self._topics.switched_camera(delivery.topic)
        if not delivery.payload or (delivery.retain and camera in self._told):
            return
        on = WORDS.get(delivery.payload.strip().upper())
        if on is None:
            self._refuse(camera, f"{delivery.payload[:20]!r} is not ON or OFF")
        elif not self._turn(camera, on):
            self._refuse(camera, "no such camera is configured and enabled")
        else:
            self._told.add(camera)
            self._log.info("camera switched", camera=camera, on=on)

    def _refuse(self, camera: str, why: str) -> None:
        self._counters.count("switch_refused")
        self._log.warning("switch refused", camera=camera[:80], reason=why)

    def announce(self, cameras: Iterable[str]) -> None:
        """Publish which of `cameras` are on, retained."""
        for camera in cameras:
            word = b"OFF" if camera in self.off else b"ON"
            self._publish(Outgoing(self._topics.enabled_state(camera), word, retain=True))

    def retire(self, camera: str) -> None:
        """The camera left the configuration."""
        self.off.discard(camera)
        self._told.discard(camera)
        self._publish(Outgoing(self._topics.enabled_state(camera), b"", retain=True))
