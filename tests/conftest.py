"""Common to all tests: one torch thread (two processes that each take all cores wait for one another)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

VIDEOS = Path(__file__).resolve().parents[2] / "shared" / "videos"


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def videos() -> Path:
    """The folder of real clips; skips where it is not there."""
    if not (VIDEOS / "manifest.json").exists():
        pytest.skip("no folder of real clips beside the repository")
    return VIDEOS
