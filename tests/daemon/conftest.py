"""Brokers for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.demo.broker import EmbeddedBroker
from tests.brokers import Certificates, Mosquitto, make_certificates


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    server = Mosquitto(tmp_path).start()
    yield server
    server.stop()


@pytest.fixture(params=["mosquitto 5", "mosquitto 3.1.1", "embedded 3.1.1"])
def any_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[int, str]]:
    """Port and protocol."""
    kind, protocol = request.param.split()
    server = EmbeddedBroker().start() if kind == "embedded" else Mosquitto(tmp_path).start()
    yield server.port, protocol
    server.stop()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))
