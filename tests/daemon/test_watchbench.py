"""`bench/accuracy.py`: systems read what they should and nothing else, and the numbers are what their names say."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from daemon.core import Core
from memory import retain
from memory.bank import Policy
from memory.recall.all import All
from memory.recall.uniform import Uniform
from stream import tower
from stream.positions import TABLE
from stream.train.events import Fault
from stream.train.questions import KINDS
from stream.train.truth import Truth
from stream.train.world import Street
from stream.types import Budget
from tests.models import absorb, make_bank, make_encoder, random_model

M, FRAMES = 5, 12


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """The scripts as modules; their neighbours are found as when they are run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).resolve().parents[2] / "bench")
        names = ("accuracy", "streams", "systems", "probes", "outages")
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def core(bench: Any) -> Core:
    model = random_model()
    positions = TABLE["compact"](len(model.system()), model.geometry.visual)
    policy = Policy(Budget(M, 4), retain.make({"adjacent": {}}), positions)
    return bench.systems.once(Core(make_encoder(model), policy, All(), 0))  # type: ignore[no-any-return]


def short(bench: Any, number: int = 0, frames: int = FRAMES) -> Any:
    """The first frames of a busy stream."""
    stream = bench.streams.draw("busy", number, 96)
    kept = stream.frames[:frames]
    return replace(stream, frames=kept, truth=Truth.of(stream.street, [frame.wall_s for frame in kept]))


@pytest.fixture(scope="module")
def stream(bench: Any) -> Any:
    return short(bench)


@pytest.fixture(scope="module")
def watch(bench: Any, core: Core, stream: Any) -> Any:
    watch = bench.systems.Watch(core, M, FRAMES, (1,))
    for frame in stream.frames:
        watch.absorb(frame)
    return watch


def equal(bench: Any, one: Any, other: Any) -> bool:
    near = torch.allclose(one.past.keys, other.past.keys, atol=1e-4)
    return near and one.moments == other.moments and one.past.positions.equal(other.past.positions)


def test_every_policy_is_compared(watch: Any) -> None:
    known = ["blind", "oracle", "full", "window4", "carriers", "hybrid", "detail1", "drop", "merge"]
    assert watch.names == [*known, *(name for name in retain.TABLE if name != "adjacent")]


def test_only_what_is_wanted_is_run_and_is_the_same(bench: Any, core: Core, watch: Any, stream: Any) -> None:
    assert set(bench.systems.every()) - {"recall", "daemon"} == set(watch.names) - {"detail1"}
    for only in (("hybrid",), ("oracle", "drop"), ("blind", "window4")):
        part = bench.systems.Watch(core, M, FRAMES, only=only)
        for frame in stream.frames:
            part.absorb(frame)
        assert set(part.names) == set(only)
        views, whole = part.views([(1, 2), ()]), watch.views([(1, 2), ()])
        assert [set(own) for own in views] == [set(only)] * 2
        assert all(equal(bench, views[place][name], whole[place][name]) for place in (0, 1) for name in only)


def test_recall_reads_what_the_bank_lost_from_a_real_archive(
    bench: Any, core: Core, stream: Any, tmp_path: Path
) -> None:
    """With room for everything, every frame is read; with a method that stays in the bank, the bank."""
    asked = [SimpleNamespace(question=SimpleNamespace(text="what passed first?", rests_on=()))]
    for method, room, frames in ((Uniform(), 100, list(range(FRAMES))), (All(), 0, None)):
        rig = bench.probes.Rig(replace(core, recall=method, recalled=room), M, (), ("recall",), tmp_path)
        with rig.watch(stream) as watch:
            for frame in stream.frames[:FRAMES]:
                watch.absorb(frame)
            (own,) = bench.probes.read_all(watch, asked)
            read = [moment.frame for moment in own["recall"].moments]
            assert read == (frames or [moment.frame for moment in watch.hybrid().moments])
        assert not list(tmp_path.iterdir()), "an archive is left"


def test_carriers_and_hybrid_are_the_daemons_bank(bench: Any, watch: Any, stream: Any) -> None:
    model = random_model()
    views = watch.views([(0,)])[0]
    for name, detail in (("carriers", 0), ("detail1", 1), ("hybrid", 4)):
        bank = make_bank(model, M, detail)
        for frame in stream.frames:
            absorb(make_encoder(model), bank, frame)
        assert equal(bench, views[name], bank.fork(now_s=stream.frames[-1].wall_s)), name


def test_a_window_begins_with_its_first_frame(bench: Any, core: Core, watch: Any, stream: Any) -> None:
    late = bench.systems.Watch(core, M, FRAMES)
    for frame in stream.frames[-4:]:
        late.absorb(frame)
    assert equal(bench, watch.views([()])[0]["window4"], late.banks()["hybrid"])


def test_the_oracle_reads_the_evidence_alone(watch: Any, stream: Any) -> None:
    frames = [watch.views([evidence])[0]["oracle"].moments for evidence in ((2, 3), (), range(FRAMES))]
    assert [[moment.frame for moment in moments] for moments in frames[:2]] == [[2, 3], [FRAMES - 1]]
    assert frames[2][0].frame == 0
    assert frames[2][-1].frame == FRAMES - 1
    assert len(frames[2]) == M


def test_held_frames(watch: Any) -> None:
    held = watch.held()
    newest = frozenset(range(FRAMES - M, FRAMES))
    assert held["fifo"] == newest
    assert held["full"] == frozenset(range(FRAMES))
    assert held["window4"] == frozenset(range(FRAMES - 4, FRAMES))
    assert held["merge"] == frozenset(range(FRAMES))  # something of every frame is left
    assert held["carriers"] == frozenset(watch.lanes["hybrid"].bank.frames)
    assert held["hybrid"] == held["carriers"] | held["window4"]


def test_questions_are_the_same_each_time_and_have_their_place(bench: Any, stream: Any) -> None:
    plan = bench.streams.Plan("busy", 1, 2, 12)
    one, two = (bench.streams.questions(stream, plan, bench.streams.Balance()) for _ in range(2))
    assert one == two
    assert {bench.streams.family(kind) for kind in KINDS} <= set(bench.streams.FAMILIES)
    everything = frozenset(range(FRAMES))
    for step, asked in one.items():
        for item in asked:
            assert item.question.step == step
            assert set(item.columns) <= set(bench.streams.FAMILIES)
            assert item.held(stream.truth, everything)
            if item.age:
                assert not item.held(stream.truth, frozenset())


def test_a_play_from_stream_to_json(bench: Any, core: Core, stream: Any, tmp_path: Path) -> None:
    plan = bench.streams.Plan("busy", 1, 2, 4)
    extent = bench.probes.Extent((plan,), {"busy": 1}, interference=1, phrasings=1)
    found = bench.probes.Findings()
    asked = bench.streams.questions(stream, plan, bench.streams.Balance())
    bench.probes.play(bench.probes.Rig(core, M), stream, asked, extent, found)
    assert all(all(same) for same in found.untouched.values())
    assert set(found.untouched) == {record.system for record in found.records}
    assert [len(wording) for wording in found.worded] == [10]
    result = json.loads(json.dumps(bench.accuracy.summary(found)))
    assert result["n"] == sum(map(len, asked.values()))
    assert set(result["systems"]) == set(found.untouched)
    assert result["systems"]["hybrid"]["interference"] == 1.0


def test_what_a_bank_holds_shows_in_its_fingerprint(bench: Any, core: Core, stream: Any) -> None:
    prints = []
    for frames in (stream.frames, stream.frames, stream.frames[1:]):
        watch = bench.systems.Watch(core, M, FRAMES)
        for number, frame in enumerate(frames):
            watch.absorb(replace(frame, index=number))
        prints.append(watch.fingerprints())
    assert prints[0] == prints[1]
    assert all(prints[0][name] != prints[2][name] for name in prints[0])


@pytest.mark.parametrize(
    ("truth", "yes", "scores", "duplicates", "alarms"),
    [
        ("..ttt..", "..yyy..", [1.0], 0, 0),
        ("..ttttttt", ".......y.", [0.625], 0, 0),  # 5 s late
        ("..ttt..", ".......", [0.0], 0, 0),
        ("..ttt..", ".yyyy..", [0.0], 0, 1),  # it was said before it was so
        (".?ttt..", ".yyyy..", [1.0], 0, 0),  # half of it was there
        ("..ttttt", "..y.y.y", [1.0], 2, 0),
        ("..tt..tt", "..y...y.", [1.0, 1.0], 0, 0),
        (".......", ".y.yy..", [], 0, 2),
    ],
)
def test_standing_questions(
    bench: Any, truth: str, yes: str, scores: list[float], duplicates: int, alarms: int
) -> None:
    vigil = bench.probes.Vigil()
    states = [{"t": True, ".": False, "?": None}[letter] for letter in truth]
    bench.probes.attend(vigil, list(range(len(truth))), states, [letter == "y" for letter in yes])
    assert (vigil.scores, vigil.duplicates, vigil.false_alarms) == (scores, duplicates, alarms)


def test_presence_follows_the_picture(bench: Any, stream: Any) -> None:
    polled = bench.streams.standing(stream)
    assert polled is not None
    assert len(polled.truth) == FRAMES
    assert True in polled.truth


def test_shares_and_their_names(bench: Any) -> None:
    def record(system: str, *, right: bool, held: bool | None, **question: Any) -> Any:
        known = {"kind": "seen", "answer": "yes", "age_s": 45.0, **question}
        asked = SimpleNamespace(question=SimpleNamespace(**known), columns=("needle",), age="age_30s")
        said = bench.systems.Said("yes" if right else "no")
        return bench.probes.Record(system, asked, said, right, held)

    found = bench.probes.Findings()
    found.records = [
        record("hybrid", right=True, held=True),
        record("hybrid", right=False, held=False),
        record("full", right=True, held=True),
    ]
    result = bench.accuracy.summary(found)
    hybrid = result["systems"]["hybrid"]
    assert (hybrid["needle"], hybrid["held_needle"], hybrid["age_30s"], hybrid["old_needle"]) == (0.5, 1.0, 0.5, 0.5)
    assert (result["n"], result["seen_not_seen"], result["seen_not_seen_held"]) == (2, 0.5, 0.0)


def test_the_daemon_names_a_gap_and_nothing_else(bench: Any) -> None:
    street = Street(3, 60.0)
    street._script = replace(street._script, faults=(Fault("gap", 20.0, 32.0), Fault("frozen", 40.0, 50.0)))
    named, invented = bench.outages.tally([street])
    assert (named["gap"].faults, named["gap"].named) == (1, 1)
    assert (named["frozen"].faults, invented) == (1, 0)


def test_a_picture_is_seen_once(bench: Any) -> None:
    model = bench.systems.Once(random_model())
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    one, two = model.encode(np.stack([image, image]))
    assert one is two
    assert model.encode(image[None])[0] is one
    assert model.geometry.name == "random"
    thin = model.encode(image[None], tower.make({"uniform": {}}))[0]
    assert not torch.equal(thin.feats, one.feats)
    assert model.encode(image[None], None, [3])[0].taps
    assert model.encode(image[None])[0] is one
