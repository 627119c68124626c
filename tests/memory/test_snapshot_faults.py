"""Saving: a kill, a full disk and a folder that may not be written leave the file that was saved before."""

from __future__ import annotations

import os
import random
import resource
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from memory.snapshot import State, load, save, scrub, set_aside
from stream.errors import SnapshotError
from tests.memory.test_snapshot import filled

ROOT = Path(__file__).resolve().parents[2]


def numbered(number: int) -> State:
    """A state of about 1 MB whose every part says which it is."""
    state = filled(4).state(float(number))
    picture = b"%08d" % number * 32_768
    return replace(state, jpegs=(picture,) * 4, absorbed=number, keys=torch.full_like(state.keys, number))


SAVER = """
import os, signal, sys, time
from pathlib import Path
import torch
from memory.snapshot import save
from tests.memory.test_snapshot_faults import numbered
torch.set_num_threads(1)
for line in sys.stdin:
    number, delay_s = line.split()
    child = os.fork()
    if child == 0:
        number = int(number)
        while True:
            number += 1
            save(numbered(number), Path(sys.argv[1]), "m1")
    time.sleep(float(delay_s))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print("killed", flush=True)
"""


def test_a_kill_while_saving_leaves_a_saved_state(tmp_path: Path) -> None:
    path = tmp_path / "door.bank"
    save(numbered(0), path, "m1")
    command = [sys.executable, "-W", "ignore", "-c", SAVER, str(path)]
    rng, number, partials = random.Random(), 0, 0
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as saver:
        assert saver.stdin is not None
        assert saver.stdout is not None
        for _ in range(30):
            saver.stdin.write(f"{number} {rng.uniform(0.0, 0.12)}\n")
            assert saver.stdout.readline() == "killed\n"
            state = load(path, "m1")
            assert state.absorbed >= number, "never back to an older one"
            number = state.absorbed
            made = numbered(number)
            assert (state.jpegs, state.spans) == (made.jpegs, made.spans)
            assert torch.equal(state.keys, made.keys)
            partials += len(list(tmp_path.iterdir())) > 1
        saver.stdin.close()
    assert number > 0, "the child saved nothing"
    assert partials > 0, "no kill fell into a save"
    save(numbered(number), path, "m1")
    assert list(tmp_path.iterdir()) == [path], "what killed saves left is gone"


@contextmanager
def small_file_limit(limit_bytes: int) -> Iterator[None]:
    """Every write beyond it fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def small_disk(options: str) -> Iterator[Path]:
    """A file system of its own; skips where mounting is not allowed."""
    with tempfile.TemporaryDirectory() as name:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", name], capture_output=True, check=False)
        if done.returncode != 0:
            pytest.skip("mounting a file system needs more rights")
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", name], check=True)


def fails_to_save(state: State, path: Path) -> str:
    before, names = path.read_bytes(), set(path.parent.iterdir())
    with pytest.raises(SnapshotError) as fault:
        save(state, path, "m1")
    assert fault.value.reason == "unwritable"
    assert path.read_bytes() == before, "the old file is whole"
    assert set(path.parent.iterdir()) == names, "nothing half-written is left"
    return str(fault.value)


def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "door.bank"
    save(numbered(1), path, "m1")
    with small_file_limit(300_000):
        assert "too large" in fails_to_save(numbered(2), path)
    assert load(path, "m1").absorbed == 1


def test_a_full_file_system_leaves_the_old_file() -> None:
    with small_disk("size=1500k") as disk:
        path = disk / "door.bank"
        save(numbered(1), path, "m1")
        assert "No space left" in fails_to_save(numbered(2), path)
        assert load(path, "m1").absorbed == 1


def test_a_read_only_file_system_leaves_the_old_file() -> None:
    with small_disk("size=4m") as disk:
        path = disk / "door.bank"
        save(numbered(1), path, "m1")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert "Read-only" in fails_to_save(numbered(2), path)
        for attempt in (lambda: set_aside(path, 0.0), lambda: scrub(path, None, None)):
            with pytest.raises(SnapshotError) as fault:
                attempt()
            assert fault.value.reason == "unwritable"
        assert load(path, "m1").absorbed == 1


def test_a_folder_that_may_not_be_written_leaves_the_old_file() -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "door.bank"
        save(numbered(1), path, "m1")
        path.chmod(0o444)
        Path(name).chmod(0o555)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)  # root may write anywhere
            assert "denied" in fails_to_save(numbered(2), path)
        finally:
            os.seteuid(user)
            Path(name).chmod(0o755)
        assert load(path, "m1").absorbed == 1


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match=r"gone/door\.bank") as fault:
        save(numbered(1), tmp_path / "gone" / "door.bank", "m1")
    assert fault.value.reason == "unwritable"


def test_only_the_owner_reads_a_saved_bank(tmp_path: Path) -> None:
    save(numbered(1), tmp_path / "door.bank", "m1")
    assert stat.S_IMODE((tmp_path / "door.bank").stat().st_mode) == 0o600
