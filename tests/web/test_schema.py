"""The API keeps what its OpenAPI document says, whatever is asked: schemathesis makes the requests up."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from stream.model.llava_onevision import LlavaOnevision
from tests.web.running import at_home

EXAMPLES = 12  # requests that fuzzing makes up for each operation; edge cases of each parameter come on top
SEED = 7
LIMIT_S = 150.0  # of a slow machine; it takes 20 s elsewhere
# Half of the operations on cameras get one that is there, the others any. A schema cannot say all: ISO 8601 has many
# forms, `since` lies before `until` and `off_below` under `on_above`. There 400 is right for what a schema allows.
CONFIG = """
[[operations]]
include-path = "/events"
enabled = false  # it never ends; tests of ours read it

[[operations]]
include-path = "/cameras/{name}/timeline"
parameters = { "path.name" = "door" }
checks.positive_data_acceptance.expected-statuses = [200, 400, 404]

[[operations]]
include-path = "/cameras/{name}/moments/{t}.jpg"
parameters = { "path.name" = "door" }

[[operations]]
include-path = "/diary"
checks.positive_data_acceptance.expected-statuses = [200, 400, 404]

[[operations]]
include-path = "/watch/{name}/events"
checks.positive_data_acceptance.expected-statuses = [200, 400, 404]

[[operations]]
include-name = "PUT /watch/{name}"
checks.positive_data_acceptance.expected-statuses = [200, 400]

[[operations]]
include-path = "/ask"
checks.positive_data_acceptance.expected-statuses = [200, 400, 409]
"""


async def test_schemathesis_finds_no_fault(model: LlavaOnevision, tmp_path: Path) -> None:
    path = tmp_path / "schemathesis.toml"
    path.write_text(CONFIG, encoding="utf-8")
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(path), "run"]
    command += ["--max-examples", str(EXAMPLES), "--seed", str(SEED), "--no-shrink", "--no-color", "--warnings", "off"]
    command += ["--generation-database", "none"]
    async with at_home(model, tmp_path, mqtt={}) as house:  # as long a body as by default
        await house.feed(3)
        child = await asyncio.create_subprocess_exec(
            *command,
            f"{house.url}/api/v1/openapi.json",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=tmp_path,
        )
        try:
            said, _ = await asyncio.wait_for(child.communicate(), LIMIT_S)
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
    assert child.returncode == 0, said.decode()
