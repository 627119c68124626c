"""Recovery: a tiny key brings back more of a frame that left than its neighbours in time do, at the same storage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from daemon import core
from daemon.settings import parse
from memory.bank import MemoryBank
from memory.recall import Asked
from memory.recall.recovered import recovered
from memory.recall.search import EVER, How, Limits
from memory.recover import Recovery, directions, recover, tiny_keys, weights
from stream.errors import ConfigError
from stream.types import Frame, Span
from tests.models import absorb, make_bank, make_encoder, random_model

ROW_BYTES = 136  # of a left frame: a tiny key and a time


def stream(seed: int, frames: int = 160, scenes: int = 5) -> tuple[Tensor, Tensor]:
    """Digests [n, 96] and carriers [n, 512] of a camera on which scenes recur, while light drifts and noise stays."""
    rng = torch.Generator().manual_seed(seed)
    looks = 2 * torch.randn(96, generator=rng) + torch.randn(scenes, 96, generator=rng)
    shown: list[int] = []
    while len(shown) < frames:
        scene, lasts = (int(torch.randint(low, high, (1,), generator=rng)) for low, high in ((0, scenes), (2, 9)))
        shown += [scene] * lasts
    drift = 0.05 * torch.randn(frames, 96, generator=rng).cumsum(0)
    digests = looks[torch.tensor(shown[:frames])] + drift + 0.3 * torch.randn(frames, 96, generator=rng)
    inner, outer = torch.randn(96, 256, generator=rng) / 96**0.5, torch.randn(256, 512, generator=rng) / 16
    return digests, torch.tanh(digests @ inner) @ outer + 0.1 * torch.randn(frames, 512, generator=rng)


def films(seed: int, frames: int = 48, scenes: int = 5) -> list[Frame]:
    """Coarse pictures that recur, with sensor noise."""
    rng = np.random.default_rng(seed)
    pictures = [np.kron(rng.integers(0, 256, (6, 6, 3)), np.ones((16, 16, 1))) for _ in range(scenes)]
    shown: list[int] = []
    while len(shown) < frames:
        shown += [int(rng.integers(scenes))] * int(rng.integers(2, 7))
    noisy = [np.clip(pictures[scene] + rng.normal(0, 20, (96, 96, 3)), 0, 255) for scene in shown[:frames]]
    return [Frame("door", at, 0, float(at), float(at), image.astype(np.uint8)) for at, image in enumerate(noisy)]


def spaced(total: int, count: int) -> list[int]:
    return [(2 * row + 1) * total // (2 * count) for row in range(count)]


def nearest(frame: int, kept: list[int], carriers: Tensor) -> Tensor:
    return carriers[min(kept, key=lambda one: abs(one - frame))]


def between(frame: int, kept: list[int], carriers: Tensor) -> Tensor:
    before = max((one for one in kept if one <= frame), default=kept[0])
    after = min((one for one in kept if one >= frame), default=kept[-1])
    share = (frame - before) / max(1, after - before)
    return torch.lerp(carriers[before], carriers[after], min(1.0, max(0.0, share)))


@pytest.mark.parametrize("seed", range(4))
def test_recovered_carriers_are_nearer_than_copies_and_than_lines_in_time(seed: int) -> None:
    """The others get so many carriers more as the tiny keys would take room for."""
    digests, carriers = stream(seed)
    compare(digests, carriers, 20, carriers[0].nbytes)


def test_so_are_those_of_a_model_whose_carriers_know_what_came_before() -> None:
    model = random_model()
    bank, encoder = make_bank(model, carriers=48), make_encoder(model)
    made = [absorb(encoder, bank, frame) for frame in films(1)]
    digests = torch.stack([item.digest for item in made])
    for carriers in ([item.keys for item in made], [item.values for item in made]):
        rows = torch.stack(carriers).flatten(1)
        compare(digests, rows, 12, 2 * rows[0].nbytes)


def compare(digests: Tensor, carriers: Tensor, count: int, row_bytes: int) -> None:
    """Of `carriers` [n, ...] so many are kept, evenly, and each takes `row_bytes`."""
    kept = spaced(len(digests), count)
    extra = (len(digests) - len(kept)) * ROW_BYTES // row_bytes
    more = spaced(len(digests), len(kept) + extra)
    assert extra >= 1
    keys = tiny_keys(digests)
    left = [frame for frame in range(len(digests)) if frame not in kept and frame not in more]

    def closeness(rows: list[Tensor]) -> float:
        return float(F.cosine_similarity(torch.stack(rows), carriers[left]).mean())

    ours = closeness([recover(keys[frame], keys[kept], carriers[kept], 0.1) for frame in left])
    assert ours > closeness([nearest(frame, more, carriers) for frame in left]) + 0.02
    assert ours > closeness([between(frame, more, carriers) for frame in left]) + 0.02


def test_where_all_is_kept_recovery_is_exact_as_the_temperature_falls() -> None:
    digests, carriers = stream(9, frames=40)
    keys = tiny_keys(digests)
    errors = []
    for temperature in (0.3, 0.1, 0.03, 0.01, 1e-4):
        made = torch.stack([recover(key, keys, carriers, temperature) for key in keys])
        errors.append(float((made - carriers).norm() / carriers.norm()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-5


def test_weights_sum_to_one_and_one_carrier_has_it_all() -> None:
    keys = tiny_keys(stream(1)[0][:7])
    share = weights(keys[2], keys, 0.1)
    assert share.sum() == pytest.approx(1)
    assert share.argmax() == 2
    assert weights(keys[0], keys[:1], 0.1).tolist() == [1.0]
    flat = tiny_keys(torch.ones(3, 8))
    torch.testing.assert_close(weights(flat[0], flat, 0.1), torch.full((3,), 1 / 3))


def test_tiny_keys_keep_angles() -> None:
    digests = torch.randn(40, 896, generator=torch.Generator().manual_seed(2))
    true = F.normalize(digests, dim=1)
    seen = tiny_keys(digests).float()
    assert ((seen @ seen.T) - (true @ true.T)).square().mean().sqrt() < 0.2  # 64 directions: about 1 / 8
    assert torch.equal(directions(896), directions(896))
    assert tiny_keys(digests.bfloat16() * 1e4).isfinite().all()


def test_the_store_is_bounded_finds_by_time_and_forgets() -> None:
    digests, carriers = stream(3, frames=30)
    store = Recovery(most=10)
    for frame in range(20):
        store.note(frame, Span(float(frame), frame + 0.5), digests[frame])
    assert len(store) == 10  # 10 .. 19
    assert [left.frame for left in store.within(None, 12.0)] == [10, 11, 12]
    back = recover(store.within(None, None)[0].key, tiny_keys(digests), carriers, 1e-4)
    torch.testing.assert_close(back, carriers[10])
    assert store.forget(12.0, 15.0) == 4
    assert [left.frame for left in store.within(11.2, 16.0)] == [11, 16]
    assert store.forget(None, None) == 6
    assert store.within(None, None) == ()


def test_a_question_about_the_past_reads_what_left_where_nothing_keeps_it() -> None:
    """Positions, order and sources are those of a bank that holds them all; what stayed is bit for bit as it was."""
    model = random_model()
    encoder, plain = make_encoder(model), make_bank(model, carriers=6, detail=2)
    bank = MemoryBank(plain.camera, plain.geometry, replace(plain.policy, recover=True))
    for frame in films(3, 20):
        absorb(encoder, bank, frame)
    view = bank.fork(now_s=20.0)
    assert len(view.left) == bank.evicted == 14
    how = How(bank.policy.positions, Limits(6))
    found = recovered(view, 4, how, Recovery())
    assert (found.count, found.recalled, len(found.source), len(found.places)) == (
        10,
        4,
        len(found.past),
        len(found.past),
    )
    frames = [moment.frame for moment in found.moments]
    assert frames == sorted(frames)
    assert (
        found.past.positions[:10].tolist() == bank.policy.positions.carriers([view.moments[0].span] * 10, 0.0).tolist()
    )
    for place, moment in enumerate(view.moments):
        assert torch.equal(found.past.keys[:, :, frames.index(moment.frame)], view.past.keys[:, :, place])
    fresh = found.past.keys[:, :, 10:]
    assert torch.equal(fresh, view.past.keys[:, :, 6:]), "recent detail stays"
    assert [frames[rank] for rank in found.source[10:].tolist()] == [
        view.moments[rank].frame for rank in view.source[6:].tolist()
    ]
    assert recovered(view, 0, how, Recovery()) is view
    assert bank.forget(None, None) == 6
    assert bank.fork(now_s=20.0).left == (), "what is forgotten does not come back"


def test_it_is_switched_on_where_there_is_no_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model()
    monkeypatch.setattr(core, "open_model", lambda *_args, **_options: model)
    settings = {"cameras": {"door": {"url": "x"}}, "archive": {"enabled": False}}
    made = core.build(parse({**settings, "memory": {"recover": True, "carriers": 5, "recalled": 3}}, "test"))
    bank = made.bank("door")
    for frame in films(4, 12):
        absorb(made.encoder, bank, frame)
    view, recaller = bank.fork(now_s=12.0), made.recaller()
    past = recaller.submit([view], [Asked("what passed first?")], EVER).result()[0]
    now = recaller.submit([view], [Asked("what is visible now?")], EVER).result()[0]
    assert (past.count, past.recalled) == (8, 3)
    assert now is view
    with pytest.raises(ConfigError, match=r"memory\.recover: true .* archive\.enabled: true"):
        core.build(parse({**settings, "archive": {"enabled": True}, "memory": {"recover": True}}, "test"))


def test_rows_of_any_shape_and_type_are_recovered() -> None:
    digests, _ = stream(4, frames=6)
    rows = torch.randn(6, 2, 3, 4).bfloat16()
    before = rows.clone()
    keys = tiny_keys(digests)
    made = recover(keys[1], keys, rows, 1e-4)
    assert (made.shape, made.dtype) == ((2, 3, 4), torch.bfloat16)
    torch.testing.assert_close(made, rows[1])
    assert torch.equal(rows, before)


@pytest.mark.parametrize("options", [{"most": 0}, {"temperature": 0.0}])
def test_values_that_make_no_sense_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Recovery(**options)  # type: ignore[arg-type]
