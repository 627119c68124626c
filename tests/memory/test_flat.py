"""DESIGN rule 2: nothing grows with the stream."""

from __future__ import annotations

import pytest

from tests.memory.test_bank import carrier, small_bank
from tests.models import absorb, make_bank, make_encoder, random_frames, random_model

FRAMES = 10_000
BOOKKEEPING_FRAMES = 1_000_000


@pytest.mark.timeout(900)
def test_ten_thousand_frames_through_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions, attended length and bytes at frame 100 are those at frame 10,000, with the real network.

    The tower, which knows no stream, sees each of the 64 pictures once.
    """
    model = random_model()
    encoder, bank = make_encoder(model), make_bank(model, 16, 4)
    pictures = random_frames(64)
    tokens = [model.encode(picture.image[None]) for picture in pictures]
    monkeypatch.setattr(model, "encode", lambda *_: tokens[number % len(tokens)])
    seen = []
    for number in range(FRAMES):
        picture = pictures[number % len(pictures)]
        frame = type(picture)("door", number, 0, float(number), 1000.0 + number, picture.image)
        absorb(encoder, bank, frame)
        if number in (100, 1_000, FRAMES - 1):
            view = bank.fork(now_s=frame.wall_s)
            past = bank.past(frame.wall_s)
            seen.append(
                (
                    len(bank),
                    len(past),
                    past.positions.tolist(),
                    bank.next_positions(frame.wall_s).tolist(),
                    len(view.past),
                    bank.held_bytes,
                )
            )
            bank.check_integrity()
            assert past.keys.isfinite().all()
    assert seen[0] == seen[1] == seen[2]
    assert bank.absorbed == FRAMES


@pytest.mark.timeout(900)
def test_a_million_frames_of_bookkeeping() -> None:
    """The bank alone: lists, spans and bytes stay as they are."""
    bank = small_bank(4, 1, {"fifo": {}})
    item = carrier(0)
    sizes = set()
    for number in range(BOOKKEEPING_FRAMES):
        object.__setattr__(item, "frame", number)
        bank.add(item)
        if number >= 100 and number % 100_000 == 0:
            bank.check_integrity()
            sizes.add((len(bank), bank.held_bytes, len(bank._detail), tuple(bank.past(0.0).positions.tolist())))
    assert len(sizes) == 1
    assert bank.evicted == BOOKKEEPING_FRAMES - 4
