"""The daemon ends, however it ends, and comes back: with its memory, knowing what it missed, and no byte too many."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from memory.archive import Reader
from tests.system import keeping
from tests.system.rig import ROOT, Rig

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
STOPPED_S = 15.0
GATE = {"gate": [{"stride": {"fps": 5}}]}
CHUNK = 40  # bytes of a picture or a record by which it is known again


@pytest.fixture(scope="session")
def snow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two minutes of pictures that are all different."""
    return keeping.make_snow(tmp_path_factory.mktemp("snow") / "snow.mp4", 120.0)


def end(rig: Rig, number: signal.Signals) -> float:
    """Send a signal, wait; when it was sent (wall)."""
    assert rig.daemon is not None
    sent_s = time.time()
    rig.daemon.send(number)
    assert rig.daemon.wait() == (0 if number == signal.SIGTERM else -number)
    rig.daemon.end()
    return sent_s


def run(rig: Rig, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line, beside the daemon."""
    command = [sys.executable, "-m", "daemon", *arguments, "-c", str(rig.config_path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_five_kills_in_a_row(rig: Rig, snow: Path) -> None:
    rig.urls, rig.more = {"door": str(snow)}, GATE
    rng = random.Random(5)
    rig.start("door")
    before = keeping.have_rows(rig, 8)
    killed_s = end(rig, signal.SIGKILL)
    for number in range(4):
        at = len(rig.daemon.log()) if rig.daemon else 0
        rig.start(wait=False)
        if number % 2:  # in the middle of a start, too
            time.sleep(rng.uniform(0.5, 5.0))
        else:
            assert rig.daemon is not None
            rig.daemon.wait_log("event=ready", since=at)
            known = {row.id for row in keeping.rows(rig)}
            time.sleep(rng.uniform(0.0, 1.0))
        assert {row.id for row in before} <= known
        end(rig, signal.SIGKILL)
        after = keeping.rows(rig)
        assert known <= {row.id for row in after}
        frames = [row.frame for row in after]
        assert frames == sorted(set(frames)), "numbers are never given twice"
    found = keeping.check(rig)
    assert found.whole, found

    since = rig.caller.mark()
    rig.start("door")
    state = rig.caller.state("door", lambda state: state["carriers"] > 0, since=since)
    assert state["memory_from"] <= before[0].span.first_s + 1e-3
    answer = keeping.ask(rig, "before", before[0].span.first_s, killed_s)
    assert keeping.evidence_within(answer, before[0].span.first_s, killed_s)
    gaps = [gap for gap in answer["memory"]["gaps"] if gap["reason"] == "restart"]
    assert gaps[0]["since"] <= killed_s <= gaps[0]["until"]
    missed = keeping.ask(rig, "missed", killed_s + 0.2, gaps[0]["until"] - 0.1)
    assert "nothing was watching" in missed["answer"]
    assert "Traceback" not in rig.daemon.log()  # type: ignore[union-attr]


def test_an_orderly_end_keeps_the_bank_bit_by_bit(rig: Rig, snow: Path) -> None:
    rig.urls, rig.more = {"door": str(snow)}, GATE
    daemon = rig.start("door")
    keeping.have_rows(rig, 8)
    began_s = time.monotonic()
    end(rig, signal.SIGTERM)
    assert time.monotonic() - began_s < STOPPED_S
    saved, archived = keeping.bank(rig), keeping.rows(rig)
    assert saved.frames[-1] == archived[-1].frame
    assert saved.spans[-1].last_s == pytest.approx(archived[-1].span.last_s, abs=1e-3)
    assert "event=stopped" in daemon.log()

    rig.urls = {"door": str(rig.folder / "gone.mp4")}  # nothing new comes
    rig.start()
    answer = keeping.ask(rig, "again", saved.spans[0].first_s, saved.spans[-1].last_s)
    assert keeping.evidence_within(answer, saved.spans[0].first_s, saved.spans[-1].last_s)
    end(rig, signal.SIGTERM)
    again = keeping.bank(rig)
    assert again.saved_s > saved.saved_s
    for name in ("camera", "spans", "frames", "jpegs", "absorbed", "evicted", "newest_frame", "rng"):
        assert getattr(again, name) == getattr(saved, name), name
    for name in ("keys", "values", "digests"):
        assert torch.equal(getattr(again, name), getattr(saved, name)), name
    assert [row.id for row in keeping.rows(rig)] == [row.id for row in archived]


def test_what_another_model_left_is_set_aside(rig: Rig, snow: Path) -> None:
    rig.urls, rig.more = {"door": str(snow)}, GATE
    rig.start("door")
    keeping.have_rows(rig, 4)
    end(rig, signal.SIGTERM)
    before, bank = {row.id for row in keeping.rows(rig)}, (keeping.folder(rig) / "banks" / "door.bank").read_bytes()

    rig.more = {**GATE, "model": {"path": rig.model, "threads": 1, "system_prompt": "You watch a door."}}
    rig.start("door")
    daemon = rig.daemon
    assert daemon is not None
    line = daemon.wait_log("(?m)^.*a saved bank cannot be used and was set aside.*$")[0]
    assert "door.bank was saved by model" in line
    assert "set_aside" in daemon.wait_log("(?m)^.*holds carriers of another model.*$")[0]
    keeping.have_rows(rig, 2)
    end(rig, signal.SIGTERM)
    (aside,) = keeping.folder(rig).glob("banks/door.bank.set-aside-*")
    assert aside.read_bytes() == bank, "not a byte was changed"
    (old,) = (path for path in keeping.folder(rig).glob("archive.sqlite.set-aside-*") if path.name.endswith("Z"))
    reader = Reader.open(old)
    assert {row.id for row in reader.rows("door", None, None)} == before
    reader.close()
    assert keeping.check(rig).whole
    assert "Traceback" not in daemon.log()


def test_one_folder_one_daemon(rig: Rig, snow: Path) -> None:
    rig.urls, rig.more = {"door": str(snow)}, GATE
    daemon = rig.start("door")
    done = run(rig, "run")
    assert done.returncode == 78
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("longwatch: archive.folder: another longwatch uses ")
    assert str(keeping.folder(rig)) in last
    assert "Traceback" not in done.stderr
    assert daemon.alive
    assert keeping.folder(rig).stat().st_mode & 0o077 == 0, "what cameras saw is nobody else's to read"
    assert keeping.ask(rig, "still")["status"] == "ok"


def chunks(datas: list[bytes], others: list[bytes]) -> list[bytes]:
    """Pieces of `datas` that none of `others` holds."""
    rest = b"\0".join(others)
    pieces = [data[at : at + CHUNK] for data in datas for at in range(0, len(data) - CHUNK, len(data) // 6)]
    return [piece for piece in pieces if piece not in rest]


def planted(rig: Rig, since_s: float, until_s: float) -> list[bytes]:
    """What must be in no file after [since_s, until_s] was erased: pieces of pictures, keys and values."""
    found: list[bytes] = []
    with keeping.reading(rig) as reader:
        all_rows = reader.rows("door", None, None)
        inside = [row.id for row in all_rows if since_s <= row.span.first_s <= until_s]
        outside = [row.id for row in all_rows if row.id not in inside]
        for table in ("pictures", "keys", '"values"', "digests"):
            mine, others = reader.records(table, inside), reader.records(table, outside)
            assert len(mine) == len(inside)
            found += chunks(list(mine.values()), list(others.values()))
    assert len(found) > 10 * len(inside)
    return found


def test_what_is_forgotten_is_in_no_file(rig: Rig, snow: Path) -> None:
    rig.urls, rig.more = {"door": str(snow)}, GATE
    rig.start("door")
    seen = keeping.have_rows(rig, 24)
    since_s, until_s = seen[6].span.first_s - 0.01, seen[14].span.first_s + 0.01
    pieces = planted(rig, since_s, until_s)
    lies_in = {name for name, data in keeping.files(rig).items() if any(piece in data for piece in pieces)}
    assert lies_in, "else there is nothing to erase"

    done = run(rig, "forget", "--camera", "door", "--since", str(since_s), "--until", str(until_s), "--yes")
    assert done.returncode == 0, done.stderr
    assert "9 archived frames of camera door erased" in done.stdout

    def clean(query_id: str) -> None:
        for name, data in keeping.files(rig).items():
            assert not any(piece in data for piece in pieces), f"{name} still holds some of it"
        answer = keeping.ask(rig, query_id, since_s, until_s - 0.1)
        assert answer["status"] == "no_evidence"
        assert "erased" in answer["answer"]
        assert [gap["reason"] for gap in answer["memory"]["gaps"]] == ["erased"]
        assert answer["evidence"] == []

    clean("erased")
    bank = keeping.bank(rig)
    assert bank.frames, "the bank was saved without it"
    assert not any(since_s <= span.first_s <= until_s for span in bank.spans)
    # nor is it after a kill and an orderly end
    end(rig, signal.SIGKILL)
    rig.start("door")
    clean("after-the-kill")
    end(rig, signal.SIGTERM)
    for name, data in keeping.files(rig).items():
        assert not any(piece in data for piece in pieces), f"{name} holds some of it again"
    assert {row.id for row in seen[:6]} <= {row.id for row in keeping.rows(rig)}, "what was before stays"
