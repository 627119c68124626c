"""A daemon that watches writes its diary, and `longwatch diary --search` finds the line by its words."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system import keeping
from tests.system.rig import ROOT, Rig

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
DIARY = {"gap_s": 1.0, "longest_s": 2.0, "share": 1.0, "max_tokens": 4, "publish": True}  # lines come soon


def test_a_line_is_written_and_found(rig: Rig, tmp_path: Path) -> None:
    rig.urls = {"door": str(keeping.make_snow(tmp_path / "snow.mp4", 60.0))}
    rig.more = {"diary": DIARY}
    rig.start("door")
    first = rig.caller.wait("longwatch/door/diary").json()
    assert (first["camera"], first["kind"]) == ("door", "event")
    assert first["from"] <= first["to"] <= first["from"] + DIARY["longest_s"]

    word = re.findall(r"\w+", first["text"])[0]
    command = [sys.executable, "-m", "daemon", "diary", "-c", str(rig.config_path), "--search", f'"{word}"', "--json"]

    def found() -> bool:  # a line goes out a moment before it is on the disk
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return first in [json.loads(line) for line in done.stdout.splitlines()]

    rig.until(found, "the line on the disk")
    assert keeping.ask(rig, "meanwhile")["status"] in ("ok", "no_evidence")
