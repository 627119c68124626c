"""What outlives the process: a daemon's life after another over one folder."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from daemon import keeper as keeping
from daemon.messages import Gap
from memory import snapshot
from memory.bank import MemoryBank
from stream.errors import ConfigError
from stream.model.llava_onevision import LlavaOnevision
from stream.reuse import Reuse
from tests.daemon.lives import T0, WAIT_S, Life, picture
from tests.daemon.recalling import small_model
from tests.models import random_model


@pytest.fixture(scope="module")
def model() -> LlavaOnevision:
    return small_model()


Begin = Callable[..., Life]


@pytest.fixture
def begin(model: LlavaOnevision, tmp_path: Path) -> Iterator[Begin]:
    """Lives that end, whatever happens."""
    lives: list[Life] = []

    def life(folder: str = "state", by: dict[str, Any] | None = None, **archive: Any) -> Life:
        other = archive.pop("model", model)
        lives.append(Life(other, tmp_path / folder, by or {"fifo": {}}, **archive))
        return lives[-1].start()

    before = set(threading.enumerate())
    yield life
    for item in lives:
        item.kill()
    assert set(threading.enumerate()) <= before, "threads are left"


def alike(one: MemoryBank, other: MemoryBank) -> None:
    """The same, but for the order in which sums over slots are taken."""
    assert content(one)[:3] + content(one)[4:] == content(other)[:3] + content(other)[4:]
    ours, theirs = one.state(0.0), other.state(0.0)
    for left, right in zip(
        (ours.keys, ours.values, ours.digests), (theirs.keys, theirs.values, theirs.digests), strict=True
    ):
        assert torch.allclose(left, right, rtol=1e-4, atol=1e-5)


def content(bank: MemoryBank) -> list[Any]:
    """All that questions and later evictions depend on, but for the recent detail."""
    state = bank.state(0.0)
    tensors = [tensor.numpy().tobytes() for tensor in (state.keys, state.values, state.digests)]
    return [state.frames, state.spans, state.jpegs, tensors, state.absorbed, state.evicted, state.newest_frame]


METHODS = [{"fifo": {}}, {"random": {}}, *({"adjacent": {"when_full": how}} for how in ("drop", "extend", "merge"))]


@pytest.mark.parametrize("by", METHODS, ids=str)
@pytest.mark.parametrize("saved_after", [None, 0, 3, 7, 10])
@pytest.mark.parametrize("grow_s", [0.0, 4.0])
def test_a_killed_daemon_goes_on_as_if_it_had_never_stopped(
    begin: Begin, by: dict[str, Any], saved_after: int | None, grow_s: float
) -> None:
    """Snapshot and archive together: carriers, spans, pictures, counts, and the dice of methods that throw some."""
    never = begin("never", by=by).watch(*range(10), grow_s=grow_s)
    killed = begin(by=by)
    if saved_after is not None:
        killed.watch(*range(saved_after), grow_s=grow_s)
        killed.keeper.save()
    killed.watch(*range(saved_after or 0, 10), grow_s=grow_s)
    for life in (never, killed):  # the archive hears of the last span with the next frame
        life.watch(10)
    killed.commit()
    killed.kill()
    back = begin(by=by)
    assert content(back.bank) == content(never.bank)
    assert back.kept.next_frame == 11
    assert back.kept.last_s == never.bank.newest_last_s
    alike(back.watch(*range(11, 16)).bank, never.watch(*range(11, 16)).bank)


def test_a_span_that_grew_after_the_last_save_is_as_long_as_the_archive_knows(begin: Begin) -> None:
    life = begin().watch(0, 1)
    life.keeper.save()
    life.grow(30.0)
    life.watch(5)
    life.commit()
    life.kill()
    back = begin()
    assert [(span.first_s - T0, span.last_s - T0) for span in back.bank.spans] == [(0, 0), (10, 40), (50, 50)]
    back.bank.extend(T0 + 99.0)
    assert back.bank.newest_last_s == T0 + 50.0, "nobody watched while it was down"


def test_an_orderly_end_saves_everything(begin: Begin) -> None:
    life = begin(by={"adjacent": {"when_full": "merge"}}).watch(*range(9), grow_s=3.0)
    whole = content(life.bank)
    life.end()
    assert content(begin(by={"adjacent": {"when_full": "merge"}}).bank) == whole


def test_frame_numbers_go_on_whatever_is_left(begin: Begin) -> None:
    life = begin().watch(*range(6))
    life.forget(T0, T0 + 1000.0)
    assert len(life.bank) == 0
    life.end()
    back = begin()
    assert (len(back.bank), back.kept.next_frame, back.kept.last_s) == (0, 6, None)


# -- gaps


def told(life: Life) -> list[tuple[float, float | None, str]]:
    gaps = life.gaps.between("door", None, None)
    return [(gap.since_s - T0, None if gap.until_s is None else gap.until_s - T0, gap.reason) for gap in gaps]


def test_gaps_are_known_after_a_restart_and_so_is_the_restart(begin: Begin) -> None:
    life = begin().watch(*range(3))
    assert told(life) == [], "a camera that was never watched missed nothing"
    life.gaps.down("door", T0 + 5.0, "frozen")
    life.gaps.up("door", T0 + 8.0)
    life.end()
    back = begin()
    assert told(back) == [(5.0, 8.0, "frozen"), (20.0, None, "restart")]
    back.gaps.up("door", T0 + 60.0)
    back.watch(7)
    back.end()
    third = begin()
    assert told(third) == [(5.0, 8.0, "frozen"), (20.0, 60.0, "restart"), (70.0, None, "restart")]
    third.keeper.restore("door")  # left the configuration and came back
    assert told(third) == [(5.0, 8.0, "frozen"), (20.0, 60.0, "restart"), (70.0, None, "restart")], "nothing twice"


def test_a_gap_that_was_open_at_the_end_goes_on(begin: Begin) -> None:
    life = begin().watch(0)
    life.gaps.down("door", T0 + 4.0, "unreachable")
    life.end()
    back = begin()
    assert told(back) == [(4.0, None, "unreachable")]
    back.gaps.up("door", T0 + 90.0)
    back.watch(9).end()
    assert told(begin())[0] == (4.0, 90.0, "unreachable")


def test_a_clock_that_was_set_back_is_said_and_no_gap_is_made_up(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    begin().watch(*range(5)).end()
    monkeypatch.setattr(time, "time", lambda: T0 - 86_400.0)
    back = begin()
    assert back.counters.value("clock_jumps") == 1
    assert told(back) == []
    assert len(back.bank) == 4


# -- what cannot be used


@pytest.mark.parametrize("how", ["garbage", "truncated", "other model"])
def test_a_snapshot_that_cannot_be_used_is_set_aside_and_the_archive_answers(
    begin: Begin, tmp_path: Path, how: str
) -> None:
    life = begin().watch(*range(6))
    whole = content(life.bank)
    life.end()
    path = tmp_path / "state" / "banks" / "door.bank"
    if how == "other model":
        snapshot.save(snapshot.load(path, life.core.model.identity), path, "another")
    else:
        path.write_bytes(b"garbage" if how == "garbage" else path.read_bytes()[:-7])
    bad = path.read_bytes()
    back = begin()
    assert content(back.bank)[:4] == whole[:4], "from the archive"
    assert back.counters.value("snapshot_faults") == 1
    (aside,) = path.parent.glob("door.bank.set-aside-*")
    assert aside.read_bytes() == bad
    back.keeper.save()
    assert snapshot.load(path, back.core.model.identity).frames == (2, 3, 4, 5)
    assert aside.read_bytes() == bad, "never overwritten"


def test_another_model_begins_anew_and_overwrites_nothing(begin: Begin, tmp_path: Path) -> None:
    begin().watch(*range(6)).end()
    other = begin(model=random_model(seed=1))
    assert (len(other.bank), other.kept.next_frame >= 0) == (0, True)
    names = sorted(item.name for item in (tmp_path / "state").rglob("*") if "set-aside" in item.name)
    assert len(names) == 2, "the bank, and the archive"


def test_without_an_archive_nothing_is_kept(begin: Begin, tmp_path: Path) -> None:
    life = begin("off", enabled=False).watch(*range(3))
    life.keeper.save()
    life.gaps.down("door", T0, "ended")
    assert (life.keeper.reader(), life.keeper.state(), life.kept.next_frame) == (None, None, 0)
    life.end()
    assert not (tmp_path / "off").exists()


def test_a_folder_belongs_to_one_daemon(begin: Begin, model: LlavaOnevision, tmp_path: Path) -> None:
    first = begin()
    other = Life(model, tmp_path / "state", {"fifo": {}})
    with pytest.raises(ConfigError, match="another longwatch uses"):
        other.keeper.open()
    first.end()
    begin().end()


def test_a_stuck_engine_costs_a_save_and_not_the_daemon(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    life = begin().watch(0)
    monkeypatch.setattr(keeping, "ENGINE_S", 0.05)
    life.engine.start()
    go, stuck = threading.Event(), threading.Event()
    life.engine.call(lambda: (stuck.set(), go.wait(WAIT_S)))
    assert stuck.wait(WAIT_S)
    life.keeper.save()
    assert life.counters.value("snapshot_faults") == 1
    go.set()
    assert life.engine.stop(WAIT_S)


# -- erasing


def everything(folder: Path) -> bytes:
    return b"|".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_what_is_forgotten_leaves_bank_snapshot_and_archive(begin: Begin, tmp_path: Path) -> None:
    life = begin()
    seen = life.core.encoder.reuse = Reuse(6.0)
    life.watch(*range(6)).keeper.save()
    life.commit()
    known = dict(seen._seen)
    traces = [picture(frame).jpeg for frame in (3, 4)]
    state = life.bank.state(0.0)
    traces += [state.keys[0, 0, rank].numpy().tobytes() for rank, frame in enumerate(state.frames) if frame in (3, 4)]
    assert all(trace in everything(tmp_path / "state") for trace in traces)
    life.forget(T0 + 30.0, T0 + 45.0)
    assert life.bank.frames == [2, 5]
    assert (len(known), len(seen._seen)) == (1, 0), "what was encoded last cannot come back"
    assert life.erased == [("door", T0 + 30.0, T0 + 45.0)]
    assert told(life) == [(30.0, 45.0, "erased")]
    assert not any(trace in everything(tmp_path / "state") for trace in traces)
    life.kill()
    back = begin()
    assert back.bank.frames == [2, 5], "the archive does not bring it back"
    assert (30.0, 45.0, "erased") in told(back)


def test_of_a_camera_that_is_not_watched_the_snapshot_is_scrubbed(begin: Begin, tmp_path: Path) -> None:
    begin().watch(*range(6)).end()
    life = begin()
    life.engine.cameras.clear()  # not in the configuration any more
    life.forget(T0 + 30.0, T0 + 45.0)
    path = tmp_path / "state" / "banks" / "door.bank"
    assert snapshot.load(path, life.core.model.identity).frames == (2, 5)
    assert not any(picture(frame).jpeg in everything(tmp_path / "state") for frame in (3, 4))


def test_a_state_from_before_an_erasure_is_never_saved_after_it(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = begin().watch(*range(6))
    go, taken, save = threading.Event(), threading.Event(), snapshot.save

    def slow(*what: Any) -> None:
        if not taken.is_set():
            taken.set()
            assert go.wait(WAIT_S)
        save(*what)

    monkeypatch.setattr(snapshot, "save", slow)
    saver = threading.Thread(target=life.keeper.save)
    saver.start()
    assert taken.wait(WAIT_S), "its state has all six"
    archive = life.keeper._archive
    assert archive is not None
    done = archive.forget("door", T0 + 30.0, T0 + 45.0)
    time.sleep(0.3)
    assert not done.done()
    go.set()
    saver.join(WAIT_S)
    done.result(WAIT_S)
    path = tmp_path / "state" / "banks" / "door.bank"
    assert snapshot.load(path, life.core.model.identity).frames == (2, 5)
    assert not any(picture(frame).jpeg in everything(tmp_path / "state") for frame in (3, 4))


@contextmanager
def no_new_files(folder: Path) -> Iterator[None]:
    """As on a disk that was made read-only; root may write anywhere, so a folder stands where the file would go."""
    path = folder / "door.bank"
    kept = path.read_bytes()
    path.unlink()
    path.mkdir()
    (path / "in-the-way").touch()
    yield
    (path / "in-the-way").unlink()
    path.rmdir()
    path.write_bytes(kept)


def test_an_erasure_is_not_done_while_a_snapshot_still_holds_it(begin: Begin, tmp_path: Path) -> None:
    life = begin().watch(*range(6))
    life.keeper.save()
    with no_new_files(tmp_path / "state" / "banks"), pytest.raises(Exception, match="old files still hold"):
        life.forget(T0 + 30.0, T0 + 45.0)
    life.forget(T0 + 30.0, T0 + 45.0)
    assert not any(picture(frame).jpeg in everything(tmp_path / "state") for frame in (3, 4))
    assert told(life) == [(30.0, 45.0, "erased")], "told once, however often it was tried"


def test_an_erasure_is_not_done_while_a_snapshot_cannot_be_read_nor_replaced(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin().watch(*range(6)).end()
    path = tmp_path / "state" / "banks" / "door.bank"
    bad = path.read_bytes()[:-1]
    path.write_bytes(bad)

    def stuck(*_what: Any) -> Path:
        raise snapshot.SnapshotError("cannot be renamed", "unwritable")

    monkeypatch.setattr(snapshot, "set_aside", stuck)
    life = begin()
    life.keeper.save()
    assert path.read_bytes() == bad, "never overwritten"
    with pytest.raises(Exception, match="old files still hold"):
        life.forget(T0 + 30.0, T0 + 45.0)
    path.unlink()
    life.forget(T0 + 30.0, T0 + 45.0)
    assert life.gaps.between("door", None, None)[0] == Gap("door", T0 + 30.0, T0 + 45.0, "erased")


def test_what_waits_for_the_archive_is_not_tied_to_the_engine(begin: Begin) -> None:
    """`absorbed` hands over copies: what the engine does with its tensors later is its own business."""
    life = begin().watch(0)
    entry = keeping.filed(_first(life), 0.5)
    life.bank._keys.zero_()
    assert entry.keys.any()
    assert entry.keys.dtype == np.float32


def _first(life: Life) -> Any:
    state = life.bank.state(0.0)
    none = torch.zeros(1)
    keys = life.bank._keys[:, :, life.bank._order[0]]
    return keeping.Carrier("door", 0, state.spans[0], none, keys, keys, none, none)
