"""A link in a process of its own, to be killed: `python -m tests.daemon.child PORT PROTOCOL echo|die`."""

from __future__ import annotations

import asyncio
import os
import random
import sys

from daemon.messages import Query
from daemon.mqtt import MqttLink, Reply
from tests.daemon.link import echo, make_settings


def die(query: Query, reply: Reply) -> None:
    os._exit(3)


async def main() -> None:
    port, protocol, what = sys.argv[1:]
    on_query = die if what == "die" else echo
    await MqttLink(make_settings(int(port), protocol=protocol), on_query, random.Random(1)).run()


if __name__ == "__main__":
    asyncio.run(main())
