"""Real videos: the layout read, frames found in time, and everything that can be broken named, skipped and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from stream.errors import ConfigError
from stream.train import videos
from stream.train.videos import Broken, BrokenData, Item, Ledger, Sampling, Unusable, read, sample
from tests.stream.kit import write_items, write_video

SPOKEN = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A red car."}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "part").mkdir()
    write_video(tmp_path / "part" / "good.mp4", 30)
    return tmp_path


@pytest.mark.parametrize("lines", [False, True])
def test_the_layout(folder: Path, lines: bool) -> None:
    """Both forms; several turns become several questions, and the place of the frames is taken out of them."""
    again = {"from": "human", "value": "And\nthen? <image>"}, {"from": "gpt", "value": " It leaves.\n"}
    item = {"id": "a7", "video": "part/good.mp4", "conversations": [*SPOKEN, *again], "data_source": "x"}
    found = read(write_items(folder / "items.json", [item, item], lines), folder)
    name = f"{folder}/items.json {'line' if lines else 'item'} 2 (a7)"
    turns = (("What is it?", "A red car."), ("And\nthen?", "It leaves."))
    assert found[1] == Item(name, folder / "part" / "good.mp4", turns)


BAD: dict[str, tuple[Any, str, str]] = {
    "cut": ('{"id": 3, "video": "part/go', "json", "Unterminated string"),
    "number": (17, "layout", "is of type int"),
    "no video": ({"id": 3, "conversations": SPOKEN}, "layout", "`video`"),
    "escape": ({"id": 3, "video": "../good.mp4", "conversations": SPOKEN}, "layout", "leads out"),
    "absolute": ({"id": 3, "video": "/etc/passwd", "conversations": SPOKEN}, "layout", "leads out"),
    "missing": ({"id": 3, "video": "part/none.mp4", "conversations": SPOKEN}, "missing", "none.mp4"),
    "long name": ({"id": 3, "video": "x" * 3000, "conversations": SPOKEN}, "missing", "xxx"),
    "zero": ({"id": 3, "video": "part/zero.mp4", "conversations": SPOKEN}, "empty", "0 bytes"),
    "silent": ({"id": 3, "video": "part/good.mp4"}, "layout", "`conversations`"),
    "odd": ({"id": 3, "video": "part/good.mp4", "conversations": SPOKEN[:1]}, "layout", "`conversations`"),
    "swapped": ({"id": 3, "video": "part/good.mp4", "conversations": SPOKEN[::-1]}, "layout", "turn 1"),
    "no answer": (
        {"id": 3, "video": "part/good.mp4", "conversations": [SPOKEN[0], {"from": "gpt", "value": " "}]},
        "empty",
        "turn 2",
    ),
    "no question": (
        {"id": 3, "video": "part/good.mp4", "conversations": [{"from": "human", "value": "<image>\n"}, SPOKEN[1]]},
        "empty",
        "turn 1",
    ),
}


@pytest.mark.parametrize("which", BAD)
def test_a_broken_item_is_named_and_the_others_are_read(folder: Path, which: str) -> None:
    (folder / "part" / "zero.mp4").touch()
    value, reason, words = BAD[which]
    good = {"id": 1, "video": "part/good.mp4", "conversations": SPOKEN}
    found = read(write_items(folder / "items.jsonl", [good, value, good], lines=True), folder)
    assert [type(item) for item in found] == [Item, Broken, Item]
    broken = found[1]
    assert isinstance(broken, Broken)
    assert broken.name.startswith(f"{folder}/items.jsonl line 2")
    assert (broken.reason, words in broken.text) == (reason, True), broken


def test_a_file_of_bytes_and_deep_nesting_are_lines_like_any_other(folder: Path) -> None:
    (folder / "items.jsonl").write_bytes(b"\xff\xfe{}\n" + b'{"a":' * 5000 + b"\n\n")
    assert [item.reason for item in read(folder / "items.jsonl", folder) if isinstance(item, Broken)] == ["json"] * 2


def test_what_is_no_data_at_all_ends_it(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json: cannot be read"):
        read(folder / "none.json", folder)
    with pytest.raises(ConfigError, match=r"starts as a JSON list.*line 1 column"):
        read(write_items(folder / "cut.json", ['[{"id": 1},'], lines=True), folder)
    with pytest.raises(ConfigError, match="holds no items"):
        read(write_items(folder / "empty.json", []), folder)
    with pytest.raises(ConfigError, match="is no folder"):
        read(write_items(folder / "some.json", [1]), folder / "nowhere")


@pytest.mark.parametrize("gop", [1, 10, 300])
def test_frames_are_those_of_their_time(tmp_path: Path, gop: int) -> None:
    """However far apart the key frames are: one in each equal stretch, and the picture of that very time."""
    path = write_video(tmp_path / "film.mp4", 100, gop=gop)
    images, times = sample(path, Sampling(8, 32))
    assert images.shape == (8, 32, 32, 3)
    assert times == pytest.approx([9.9 / 8 * (number + 0.5) for number in range(8)], abs=0.11)
    greys = images.reshape(8, -1).mean(1)
    assert greys == pytest.approx([20 + 200 * round(t_s * 10) / 99 for t_s in times], abs=4)


def test_a_short_video_gives_all_it_has(tmp_path: Path) -> None:
    images, times = sample(write_video(tmp_path / "film.mp4", 3), Sampling(8, 32))
    assert len(images) == 3
    assert times == pytest.approx([0.0, 0.1, 0.2])


def test_a_damaged_video_gives_what_can_be_decoded(tmp_path: Path) -> None:
    """A hole in the middle costs frames near it; nothing but noise is unreadable."""
    path = write_video(tmp_path / "film.mp4", 100)
    raw = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    raw[len(raw) // 2 : len(raw) // 2 + len(raw) // 20] = rng.bytes(len(raw) // 20)
    path.write_bytes(raw)
    images, times = sample(path, Sampling(8, 32))
    assert len(images) >= 4
    assert times == sorted(times)


def _noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def _cut(path: Path) -> None:
    path.write_bytes(write_video(path, 60).read_bytes()[:900])


def _sound(path: Path) -> None:
    with av.open(str(path), "w", format="wav") as out:
        stream = out.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), dtype=np.int16), layout="mono")
        frame.sample_rate = 8000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_noise, "unreadable"),
        (_cut, "unreadable"),
        (lambda path: path.write_text("#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:9/x.ts\n"), "unreadable"),
        (_sound, "no_video"),
        (lambda path: write_video(path, 5, px=(64, 8)), "size"),
        (lambda path: write_video(path, 70), "too_long"),
    ],
    ids=["noise", "cut", "playlist", "sound", "size", "long"],
)
def test_what_is_no_usable_video(tmp_path: Path, make: Any, reason: str) -> None:
    path = tmp_path / "film.mp4"
    make(path)
    with pytest.raises(Unusable, match=r"film\.mp4") as caught:
        sample(path, Sampling(4, 32, max_s=5.0))
    assert caught.value.reason == reason


def items(good: int, bad: int) -> list[Item | Broken]:
    fine: list[Item | Broken] = [Item(f"good {number}", Path(), ()) for number in range(good)]
    return fine + [Broken(f"bad {number}", "json", "torn") for number in range(bad)]


def test_the_share_is_of_all_items_as_far_as_they_are_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = Ledger(items(90, 10), 0.15, tmp_path / "broken.jsonl")
    assert ledger.share() == pytest.approx(0.10)
    ledger.skip(Broken("good 0", "unreadable", "noise"))
    assert ledger.share() == pytest.approx(0.10 + 0.9 / 20), "one of one says nothing yet"
    ledger.skip(Broken("good 0", "unreadable", "noise"))
    assert ledger.counts == {"json": 10, "unreadable": 1}, "counted once"
    for _ in range(39):
        ledger.used(1)
    assert ledger.share() == pytest.approx(0.10 + 0.9 / 40)
    assert ledger.left_out == 39
    later = Ledger(items(90, 10), 0.15, tmp_path / "again.jsonl")
    later.resume(ledger.state())
    assert (later.share(), later.counts, later.state()) == (ledger.share(), ledger.counts, ledger.state())
    rows = [json.loads(line) for line in (tmp_path / "again.jsonl").read_text().splitlines()]
    assert len(rows) == 11
    assert rows[-1] == {"item": "good 0", "reason": "unreadable", "text": "noise"}
    assert "skipped bad 3: json: torn" in capsys.readouterr().err
    ledger.skip(Broken("good 1", "unreadable", "noise"))
    with pytest.raises(BrokenData, match=r"16\.4% of 100 items cannot be used \(json 10, unreadable 3\).*15\.0%"):
        ledger.skip(Broken("good 2", "unreadable", "noise"))


def test_too_much_broken_ends_it_at_once(tmp_path: Path) -> None:
    with pytest.raises(BrokenData, match=r"broken\.jsonl names them"):
        Ledger(items(8, 3), 0.2, tmp_path / "broken.jsonl")
    ledger = Ledger(items(5, 0), 0.1, tmp_path / "broken.jsonl")
    with pytest.raises(BrokenData, match=r"20\.0% of 5 items"):
        ledger.skip(Broken("good 1", "missing", "gone"))


def test_only_the_first_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Ledger(items(900, 50), 0.1, tmp_path / "broken.jsonl")
    assert capsys.readouterr().err.count("skipped") == videos.SHOWN
    assert len((tmp_path / "broken.jsonl").read_text().splitlines()) == 50
