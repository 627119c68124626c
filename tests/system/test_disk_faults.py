"""Disk and clock break in every way: each is said, the daemon goes on watching and answering, nothing else is lost."""

from __future__ import annotations

import fcntl
import resource
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.system import keeping
from tests.system.rig import Rig

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
GATE = {"gate": [{"stride": {"fps": 5}}]}
DISK_MB = 24
DAY_S = 86_400
CLOCK = """
import time
from pathlib import Path
_real, _file = time.time, Path(__file__).with_name("offset")
def _set_clock():
    try:
        return _real() + float(_file.read_text())
    except (OSError, ValueError):
        return _real()
time.time = _set_clock
"""


@pytest.fixture(scope="session")
def snow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that are all different; after a minute they begin again."""
    return keeping.make_snow(tmp_path_factory.mktemp("snow") / "snow.mp4", 60.0)


def mount(*arguments: str) -> None:
    """`mount`; the test is skipped where that is not allowed."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")


@pytest.fixture
def disk(rig: Rig) -> Iterator[Path]:
    """The daemon's folder is a small disk of its own."""
    folder = keeping.folder(rig)
    folder.mkdir()
    mount("-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder))
    yield folder
    if rig.daemon is not None:
        rig.daemon.end()
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def breaking_disk(rig: Rig) -> Iterator[Path]:
    """The daemon's folder is an ext4 disk; writing to the file that is given finds an error on it."""
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("mkfs.ext4 is not installed")
    folder, image = keeping.folder(rig), rig.folder / "disk.img"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(DISK_MB << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    mount("-o", "loop,errors=remount-ro", str(image), str(folder))
    mounts = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    device = next(line.split()[0] for line in mounts if line.split()[1] == str(folder))
    yield Path("/sys/fs/ext4") / Path(device).name / "trigger_fs_error"
    if rig.daemon is not None:
        rig.daemon.end()
    subprocess.run(["umount", "-l", str(folder)], check=True)


def watches(rig: Rig, name: str) -> None:
    """Frames still become memory, and questions are answered."""
    first = rig.caller.state("door", since=rig.caller.mark())
    rig.caller.state("door", lambda state: state["frames_kept"] > first["frames_kept"], since=rig.caller.mark())
    assert keeping.ask(rig, name)["status"] == "ok"
    assert rig.daemon is not None
    assert rig.daemon.alive
    assert "Traceback" not in rig.daemon.log()


def intact(rig: Rig, before: set[int]) -> None:
    """All that was there is there, whole, and numbers are unique."""
    rows = keeping.rows(rig)
    assert before <= {row.id for row in rows}
    frames = [row.frame for row in rows]
    assert frames == sorted(set(frames))
    found = keeping.check(rig)
    assert found.whole, found


def stop(rig: Rig) -> None:
    """In order."""
    assert rig.daemon is not None
    rig.daemon.send(signal.SIGTERM)
    assert rig.daemon.wait() == 0
    rig.daemon.end()


def recovers(rig: Rig, reason: str, heal: object, name: str) -> None:
    """The fault was said with its reason; everything goes on; after `heal` the archive is written again."""
    assert rig.daemon is not None
    rig.daemon.wait_log(f"the archive cannot be written; watching and answering go on.* state={reason} ")
    status = keeping.archive_status(rig, lambda got: not got["archive_ok"], rig.caller.mark())
    assert status["archive_reason"] == reason
    watches(rig, name)
    at, before = len(rig.daemon.log()), {row.id for row in keeping.rows(rig)}
    assert callable(heal)
    heal()
    rig.daemon.wait_log("event=archive state=ok", since=at)
    keeping.archive_status(rig, lambda got: got["archive_ok"], rig.caller.mark())
    keeping.have_rows(rig, len(before) + 3)
    intact(rig, before)


def test_a_full_disk(rig: Rig, snow: Path, disk: Path) -> None:
    rig.urls, rig.more = {"door": str(snow)}, GATE
    daemon = rig.start("door")
    keeping.have_rows(rig, 5)
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        try:
            while True:
                file.write(bytes(1 << 16))
                file.flush()
        except OSError:
            pass
    recovers(rig, "full", ballast.unlink, "while-full")

    # one file may not grow, as with a quota of the file system
    log = keeping.archive_path(rig).with_name("archive.sqlite-wal")
    soft, hard = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (log.stat().st_size, hard))

    def lift() -> None:
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (soft, hard))

    recovers(rig, "io", lift, "while-limited")
    stop(rig)


def test_a_disk_that_is_read_only_at_the_start(rig: Rig, snow: Path, disk: Path) -> None:
    rig.urls, rig.more = {"door": str(snow)}, GATE
    daemon = rig.start("door")
    before = keeping.have_rows(rig, 8)
    daemon.send(signal.SIGKILL)  # its log is not in the main file yet
    daemon.wait()
    daemon.end()
    before = keeping.rows(rig)
    mount("-o", "remount,ro", str(disk))

    rig.start("door")
    daemon = rig.daemon  # type: ignore[assignment]
    daemon.wait_log("nothing can be kept: memory will not survive a restart.*Read-only file system")
    answer = keeping.ask(rig, "before", before[0].span.first_s, before[-1].span.last_s)
    assert keeping.evidence_within(answer, before[0].span.first_s, before[-1].span.last_s)
    recovers(rig, "read_only", lambda: mount("-o", "remount,rw", str(disk)), "while-read-only")
    with (disk / "lock").open("rb") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # `forget` must ask the daemon
    intact(rig, {row.id for row in before})
    stop(rig)
    assert keeping.bank(rig).frames


def test_a_disk_that_turns_read_only(rig: Rig, snow: Path, breaking_disk: Path) -> None:
    """An SD card at its end: the system keeps it from being written, whatever is open."""
    rig.urls, rig.more = {"door": str(snow)}, GATE
    daemon = rig.start("door")
    before = keeping.have_rows(rig, 8)
    breaking_disk.write_text("an error", encoding="ascii")
    daemon.wait_log("the archive cannot be written.* state=read_only ")
    watches(rig, "while-read-only")
    answer = keeping.ask(rig, "before", before[0].span.first_s, before[-1].span.last_s)
    assert keeping.evidence_within(answer, before[0].span.first_s, before[-1].span.last_s)
    intact(rig, {row.id for row in before})
    stop(rig)
    assert "bank not saved" in daemon.log()


def spoil(path: Path, share: float, pages: int) -> None:
    """Overwrite pages of the archive, from `share` of its length on."""
    page = int.from_bytes(path.read_bytes()[16:18], "big")
    page = 65_536 if page == 1 else page
    with path.open("r+b") as file:
        file.seek(page * int(share * path.stat().st_size / page))
        file.write(b"\xa5" * (page * pages))


def spoil_newest(path: Path, table: str) -> None:
    """Garble a row on the newest page of `table`, and nothing of the page's own: a daemon that starts reads it."""
    with closing(sqlite3.connect(path)) as db:
        (page,) = db.execute("PRAGMA page_size").fetchone()
        query = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY pageno DESC LIMIT 1"
        (number,) = db.execute(query, (table,)).fetchone()
    with path.open("r+b") as file:
        file.seek(page * number - 64)  # rows are filled in from a page's end
        file.write(b"\xa5" * 16)


def test_damaged_and_truncated_files(rig: Rig, snow: Path) -> None:
    rig.urls, rig.more = {"door": str(snow)}, GATE
    rig.start("door")
    keeping.have_rows(rig, 30)
    stop(rig)
    before, path = keeping.rows(rig), keeping.archive_path(rig)
    bank = keeping.folder(rig) / "banks" / "door.bank"
    bank.write_bytes(bank.read_bytes()[: bank.stat().st_size // 2])
    spoil_newest(path, "keys")

    rig.start("door")
    daemon = rig.daemon
    assert daemon is not None
    assert "it was cut off" in daemon.wait_log("(?m)^.*a saved bank cannot be used and was set aside.*$")[0]
    daemon.wait_log("parts of the archive cannot be read|state=set_aside")
    watches(rig, "damaged")
    answer = keeping.ask(rig, "before", before[0].span.first_s, before[-1].span.last_s)
    assert keeping.evidence_within(answer, before[0].span.first_s, before[-1].span.last_s)
    assert "memory restored" in daemon.log()

    # while it runs, too; nobody may notice before somebody looks
    spoil(path, 0.3, 3)
    answer = keeping.ask(rig, "damaged-before", before[0].span.first_s, before[-1].span.last_s)
    assert keeping.evidence_within(answer, before[0].span.first_s, before[-1].span.last_s)
    watches(rig, "damaged-again")
    found = keeping.check(rig)
    assert not found.whole
    stop(rig)

    newest = max(row.frame for row in keeping.rows(rig))
    with path.open("r+b") as file:
        file.truncate(int(0.6 * path.stat().st_size))
    rig.start("door")
    assert rig.daemon is not None
    rig.daemon.wait_log("state=set_aside")
    rig.daemon.wait_log("state=salvaged")
    watches(rig, "truncated")
    stop(rig)
    rows = keeping.rows(rig)
    assert max(row.frame for row in rows) > newest
    assert len({row.frame for row in rows}) == len(rows)
    assert keeping.check(rig).whole
    assert list(keeping.folder(rig).glob("archive.sqlite.set-aside-*")), "the old file stays"


def test_a_clock_that_jumps_back_a_day(rig: Rig, snow: Path) -> None:
    clock = rig.folder / "clock"
    clock.mkdir()
    (clock / "sitecustomize.py").write_text(CLOCK, encoding="ascii")
    rig.env = {"PYTHONPATH": str(clock)}
    rig.urls, rig.more = {"door": str(snow)}, GATE
    daemon = rig.start("door")
    before = keeping.have_rows(rig, 8)
    (clock / "offset").write_text(str(-DAY_S), encoding="ascii")
    line = daemon.wait_log(r"the clock was set.* by_s=(-\d+)")
    assert abs(int(line[1]) + DAY_S) <= 2
    watches(rig, "yesterday")
    keeping.have_rows(rig, len(keeping.rows(rig)) + 3)
    daemon.send(signal.SIGKILL)
    daemon.wait()
    daemon.end()
    known = {row.id for row in keeping.rows(rig)}

    rig.start("door")
    assert rig.daemon is not None
    rig.daemon.wait_log("the clock is behind what memory holds: was it set back.*behind_s=")
    watches(rig, "still-yesterday")
    answer = keeping.ask(rig, "before", before[0].span.first_s, before[-1].span.last_s)
    assert keeping.evidence_within(answer, before[0].span.first_s, before[-1].span.last_s)
    later = keeping.have_rows(rig, len(known) + 3)
    assert later[-1].span.first_s < before[0].span.first_s, "what came last is dated before"
    stop(rig)
    intact(rig, known)
