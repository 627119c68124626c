"""One random model for all web tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from stream.model.llava_onevision import LlavaOnevision
from tests.daemon.recalling import small_model
from tests.web.running import House, at_home


@pytest.fixture(scope="session")
def model() -> LlavaOnevision:
    return small_model()


@pytest_asyncio.fixture
async def house(model: LlavaOnevision, tmp_path: Path) -> AsyncIterator[House]:
    async with at_home(model, tmp_path) as found:
        yield found
