"""`longwatch archive` and `longwatch forget`: what people see, beside a running daemon and without one."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest
import torch
import typer
from safetensors.torch import load_file
from typer.testing import CliRunner

from daemon import keep
from memory import snapshot
from memory.archive import Reader
from memory.archive.types import ArchiveError
from stream.errors import LongwatchError
from tests.memory.archives import SHAPE, T0, content, entry, fill, opened
from tests.memory.test_archive import picture
from tests.memory.test_bank import carrier, small_bank

FRAMES = 50


@pytest.fixture
def cli() -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.add_typer(keep.archive_cli, name="archive")
    app.command()(keep.forget)
    return app


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    (folder / "banks").mkdir(parents=True)
    path = tmp_path / "longwatch.yaml"
    path.write_text(f"cameras: {{door: {{url: file}}}}\narchive: {{folder: {folder}}}\n")
    return path


def archived(config: Path) -> Path:
    """Fifty frames of two cameras; the folder."""
    folder = config.parent / "state"
    with opened(folder / "archive.sqlite") as archive:
        fill(archive, [entry(frame, jpeg=picture() + b"mark of %d." % frame) for frame in range(FRAMES)])
        fill(archive, [entry(frame, "gate") for frame in range(FRAMES)])
    return folder


def run(cli: typer.Typer, *words: object, code: int = 0) -> str:
    result = CliRunner().invoke(cli, [str(word) for word in words])
    if isinstance(result.exception, Exception) and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def test_stats_and_verify(cli: typer.Typer, config: Path) -> None:
    folder = archived(config)
    told = run(cli, "archive", "stats", "-c", config)
    assert "door" in told
    assert "50 frames" in told
    assert "tiny-1" in told
    found = json.loads(run(cli, "archive", "stats", "--json", "-c", config))
    assert [camera["rows"] for camera in found["cameras"]] == [FRAMES, FRAMES]
    assert found["cameras"][0]["first_s"] == T0
    assert "all whole" in run(cli, "archive", "verify", "-c", config)
    raw = bytearray((folder / "archive.sqlite").read_bytes())
    at = raw.index(b"mark of 7.")
    raw[at : at + 4] = b"MARK"
    (folder / "archive.sqlite").write_bytes(raw)
    assert "1 pictures are damaged" in run(cli, "archive", "verify", "-c", config, code=1)


def test_export(cli: typer.Typer, config: Path, tmp_path: Path) -> None:
    archived(config)
    target = tmp_path / "copy"
    told = run(
        cli, "archive", "export", target, "-c", config, "--camera", "door", "--since", T0 + 10, "--until", T0 + 19
    )
    assert "10 carriers and 10 pictures" in told
    lines = [json.loads(line) for line in (target / "index.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(10, 20))
    assert all(line["whole"] for line in lines)
    assert (target / lines[3]["picture"]).read_bytes().endswith(b"mark of 13.")
    tensors = load_file(target / "carriers.safetensors")
    assert tensors["keys"].shape == (10, *SHAPE.heads)
    assert torch.allclose(tensors["values"][4], torch.from_numpy(entry(14).values), atol=0.02)
    assert torch.allclose(tensors["digests"][9], torch.from_numpy(entry(19).digest), atol=0.02)
    with pytest.raises(ArchiveError, match="not empty"):
        run(cli, "archive", "export", target, "-c", config)
    assert "100 carriers" in run(cli, "archive", "export", tmp_path / "all", "-c", config)


def test_forget_without_a_daemon_cleans_snapshots_and_archive(cli: typer.Typer, config: Path) -> None:
    folder = archived(config)
    bank = small_bank(8)
    for frame in range(8):
        bank.add(carrier(frame, wall_s=T0 + 10 * frame))
    snapshot.save(bank.state(T0 + 100), folder / "banks" / "door.bank", "any")
    asked = ("forget", "-c", config, "--camera", "door", "--since", T0 + 20, "--until", T0 + 29.5)
    assert CliRunner().invoke(cli, [str(word) for word in asked], input="n\n").exit_code == 1
    assert b"mark of 25." in content(folder)
    told = run(cli, *asked, "--yes")
    assert "10 archived frames of camera door erased" in told
    assert b"mark of 25." not in content(folder)
    assert b"mark of 30." in content(folder)
    state = snapshot.load(folder / "banks" / "door.bank", "any")
    assert [span.first_s - T0 for span in state.spans] == [0, 10, 30, 40, 50, 60, 70]
    reader = Reader.open(folder / "archive.sqlite")
    assert reader.identity == "tiny-1"
    assert [outage.reason for outage in reader.outages("door", None, None)] == ["erased"]
    assert reader.outages("gate", None, None) == []
    reader.close()
    assert not list(folder.glob("*set-aside*"))


def test_forget_beside_a_daemon_asks_it_and_waits(cli: typer.Typer, config: Path) -> None:
    folder, seen = archived(config), []
    with (
        (folder / "lock").open("w") as lock,
        opened(folder / "archive.sqlite", on_forget=lambda *asked: seen.append(asked)),
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        told = run(cli, "forget", "-c", config, "--since", T0 + 20, "--until", T0 + 29.5, "--yes")
        assert "20 archived frames of all cameras erased" in told
        assert seen == [(None, T0 + 20, T0 + 29.5)]
        assert b"mark of 25." not in content(folder)


def test_forget_the_last_hour(cli: typer.Typer, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = archived(config)
    monkeypatch.setattr(keep.time, "time", lambda: T0 + FRAMES + 3600 - 10)
    for more in (("--since", T0), ("--until", T0)):
        with pytest.raises(keep.KeepError, match="says both ends"):
            run(cli, "forget", "-c", config, "--last", "1h", *more, "--yes")
    told = run(cli, "forget", "-c", config, "--camera", "door", "--last", "1h", "--yes")
    assert "10 archived frames of camera door erased" in told
    assert b"mark of 39." in content(folder)
    assert b"mark of 40." not in content(folder)


def test_a_daemon_that_does_not_answer(cli: typer.Typer, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keep, "ANSWER_S", 0.2)
    folder = archived(config)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(keep.KeepError, match="it will when it can"):
            run(cli, "forget", "-c", config, "--yes")
    with opened(folder / "archive.sqlite") as archive:  # the next start does it
        while archive.reader().count(None, None, None):
            assert archive.flush(5.0)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["archive", "export", "x", "--camera", "roof"], "knows door, gate"),
        (["forget", "--camera", "roof", "--yes"], "knows door, gate"),
        (["forget", "--since", "soon", "--yes"], "--since 'soon'"),
        (["forget", "--until", "nan", "--yes"], "outside 1970 to 2100"),
        (["forget", "--since", "5000", "--until", "4000", "--yes"], "nothing was erased"),
    ],
)
def test_what_is_wrong_is_one_line(cli: typer.Typer, config: Path, words: list[str], line: str) -> None:
    archived(config)
    with pytest.raises(LongwatchError, match=line) as caught:
        run(cli, *words, "-c", config)
    assert "\n" not in str(caught.value)


def test_no_archive_is_one_line(cli: typer.Typer, config: Path) -> None:
    for words in (["archive", "stats"], ["archive", "verify"], ["forget", "--yes"]):
        with pytest.raises(ArchiveError, match="no archive there"):
            run(cli, *words, "-c", config)
