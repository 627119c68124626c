"""systemd itself reads the unit: silent `verify`, low exposure; and a misspelt directive is seen by the same check."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from daemon import unit
from stream.errors import ConfigError

TRUE = Path(shutil.which("true") or "/bin/true")
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None and not os.environ.get("CI"),
    reason="systemd-analyze is not installed (Debian: apt-get install systemd)",
)


def analyze(*args: str) -> tuple[int, str]:
    """Exit code and all output; `verify` exits 0 on unknown keys, so its output counts as well."""
    done = subprocess.run(["systemd-analyze", *args], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def write(folder: Path, text: str) -> str:
    path = folder / "longwatch.service"
    path.write_text(text)
    return str(path)


@needs_systemd
@pytest.mark.parametrize("gpu", [False, True])
def test_systemd_accepts_the_unit_in_silence(tmp_path: Path, gpu: bool) -> None:
    path = write(tmp_path, unit.render(TRUE, gpu=gpu))
    assert analyze("verify", path) == (0, "")
    code, text = analyze("security", "--offline=true", "--threshold=20", path)
    assert code == 0, text


@needs_systemd
def test_the_same_check_sees_a_misspelt_directive(tmp_path: Path) -> None:
    text = unit.render(TRUE)
    path = write(tmp_path, text.replace("WatchdogSec=", "WatchdogSecs="))
    assert "Unknown key" in analyze("verify", path)[1]
    path = write(tmp_path, text.replace("MemoryHigh=70%", "MemoryHigh=lots"))
    assert analyze("verify", path)[1] != ""


@needs_systemd
def test_the_threshold_can_fail(tmp_path: Path) -> None:
    text = unit.render(TRUE)
    soft = "\n".join(line for line in text.splitlines() if not line.startswith(("Protect", "Restrict", "System")))
    assert analyze("security", "--offline=true", "--threshold=20", write(tmp_path, soft))[0] != 0


@needs_systemd
def test_a_path_with_a_blank_reaches_systemd_whole(tmp_path: Path) -> None:
    odd = Path("/opt/my cameras/longwatch")
    code, text = analyze("verify", write(tmp_path, unit.render(odd)))
    assert code != 0
    assert str(odd) in text, "systemd complains about the missing executable by its true name"


def test_the_unit_runs_this_executable_with_this_configuration() -> None:
    text = unit.render(Path("/opt/lw/bin/longwatch"), Path("/etc/lw.yaml"))
    assert "\nExecStart=/opt/lw/bin/longwatch run --config /etc/lw.yaml\n" in text
    assert text.count("ExecStart=") == 1
    assert "\nProcSubset" not in text
    assert "nvidia" not in text
    commands = [line for line in text.splitlines()[:7] if line[:5].strip("# ")]
    assert [line.split()[1] for line in text.splitlines()[2:6]] == ["1.", "2.", "3.", "4."], commands
    assert "unit --config /etc/lw.yaml > /etc/systemd/system/longwatch.service" in text


def test_the_gpu_lines_come_last() -> None:
    lines = unit.render(TRUE, gpu=True).splitlines()
    assert max(i for i, line in enumerate(lines) if line.startswith("PrivateDevices=")) == lines.index(
        "PrivateDevices=no"
    )


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/home/ann/venv/bin/longwatch", "/home"),
        ("/root/venv/bin/longwatch", "/root"),
        ("/tmp/x/longwatch", "/tmp"),
        ("venv/bin/longwatch", "absolute"),
        ("/opt/a\nb/longwatch", "rename"),
        ("/opt/100%/longwatch", "rename"),
    ],
)
def test_hidden_places_are_refused(path: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        unit.render(Path(path))
    with pytest.raises(ConfigError, match=word):
        unit.render(TRUE, Path(path))
    with pytest.raises(ConfigError, match=word):
        unit.render(TRUE, needs=[Path(path)])


def test_a_link_into_a_hidden_place_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit, "_HIDDEN", (tmp_path / "home",))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "longwatch").touch()
    (tmp_path / "link").symlink_to(tmp_path / "home" / "longwatch")
    assert "really" in (unit.problem(tmp_path / "link") or "")
    assert unit.problem(tmp_path / "elsewhere") is None


def test_installation_is_absolute() -> None:
    executable, needs = unit.installation()
    assert executable.is_absolute()
    assert executable.name == "longwatch"
    assert all(path.exists() for path in needs)
