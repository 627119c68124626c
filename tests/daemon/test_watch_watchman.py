"""The watchman over an engine driven by hand: who is asked when, what it may cost, and what is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from pydantic import TypeAdapter

from daemon.outlook import Outlook
from daemon.watch.machine import State
from daemon.watch.spec import WatchingSettings, WatchSpec
from daemon.watch.watchman import Told, Watchman
from memory.view import MemoryView
from stream.model.llava_onevision import LlavaOnevision
from stream.types import Thumbnail
from tests.daemon.driven import Bench
from tests.memory.test_bank import state
from tests.models import random_frames, random_model


@pytest.fixture(scope="module")
def model() -> LlavaOnevision:
    return random_model()


@dataclass
class Script:
    """Says what it is told to, and how often it was asked."""

    says: dict[str, float] = field(default_factory=dict)
    asked: list[tuple[str, int]] = field(default_factory=list)
    read: list[tuple[int, int]] = field(default_factory=list)  # carriers, and keys in all
    costs: Callable[[], None] = lambda: None
    broken: bool = False

    def probabilities(self, view: MemoryView, questions: Sequence[Sequence[int]]) -> list[float]:
        self.costs()
        if self.broken:
            raise RuntimeError("out of memory, say")
        self.asked.append((view.camera, len(questions)))
        self.read.append((view.count, len(view.past)))
        return [self.says.get(view.camera, 0.0)] * len(questions)


class Post:
    """A bench with a watchman."""

    def __init__(self, model: LlavaOnevision, cameras: int = 1, **settings: Any) -> None:
        self.bench, self.script = Bench(model, cameras), Script()
        self.told: list[Told] = []
        outlook = Outlook(newest_s=self.bench.newest.get, clock=self.bench.clock)
        self.man = Watchman(
            self.script,
            model.question_ids,
            WatchingSettings(**{"share": 1.0, **settings}),
            outlook,
            self.bench.counters,
            self.told.append,
        )
        self.bench.engine.watching = self.man
        self.next = [0] * cameras

    def put(self, **specs: dict[str, Any]) -> None:
        self.man.exchange({name: spec(**fields) for name, fields in specs.items()})

    def frame(self, number: int = 0, score: float = 1.0, jpeg: bytes = b"") -> None:
        """One more second of a camera."""
        name, index = f"cam{number}", self.next[number]
        frame = random_frames(index + 1, number, name)[-1]
        frame = replace(frame, wall_s=self.bench.clock.now_s, score=score, thumbnail=Thumbnail(lambda: jpeg))
        self.next[number] += 1
        self.bench.newest[name] = frame.wall_s
        self.bench.cameras[name].mailbox.put(frame)
        self.bench.engine.notify()
        self.bench.engine.turn()

    def wait(self, seconds: float, *, seen: bool = True) -> None:
        self.bench.clock.now_s += seconds
        for name in list(self.bench.newest) if seen else ():
            self.bench.newest[name] = self.bench.clock.now_s
        self.bench.engine.turn()

    @property
    def types(self) -> list[str]:
        return [item.transition.type for item in self.told]


def spec(**fields: Any) -> WatchSpec:
    return WatchSpec.model_validate({"question": "what is visible now?", "debounce_s": 0, **fields})


def test_all_questions_of_a_camera_in_one_forward_and_memory_is_as_it_was(model: LlavaOnevision) -> None:
    plain, post = Bench(model, 2), Post(model, 2)
    post.put(a={}, b={}, c={"cameras": ["cam1"]}, d={"enabled": False})
    for _ in range(4):
        post.frame(0)
        post.wait(1)
    assert post.script.asked == [("cam0", 2)] * 4
    post.frame(1)
    assert post.script.asked[-1] == ("cam1", 3)
    assert len(plain.cameras) == 2
    before = state(post.bench.cameras["cam0"].bank)
    post.put(e={})
    post.bench.engine.turn()
    post.bench.engine.turn()
    assert post.script.asked[-2:] == [("cam0", 1), ("cam1", 1)], "a new question is put at once"
    assert state(post.bench.cameras["cam0"].bank) == before


def test_a_question_reads_as_much_as_it_says(model: LlavaOnevision) -> None:
    post = Post(model)
    post.put(now={}, recent={"reads": "recent"}, also_now={}, memory={"reads": "memory"})
    for _ in range(6):
        post.frame()
        post.wait(1)
    bank, visual = post.bench.cameras["cam0"].bank, model.geometry.visual
    whole = bank.policy.budget.detail_frames
    assert post.script.asked[-3:] == [("cam0", 2), ("cam0", 1), ("cam0", 1)]
    assert post.script.read[-3:] == [
        (1, 1 + visual),
        (whole, whole * (1 + visual)),
        (len(bank), len(bank) + whole * visual),
    ]
    assert whole < 6 == len(bank)


def test_events_carry_the_picture_of_their_beginning(model: LlavaOnevision) -> None:
    post = Post(model, 2)
    post.put(gate={"debounce_s": 2})
    post.frame(jpeg=b"before")
    post.script.says = {"cam0": 0.9}
    post.wait(1)
    post.frame(jpeg=b"begins")
    for _ in range(2):
        post.wait(1)
        post.frame(jpeg=b"later")
    post.script.says = {"cam0": 0.9, "cam1": 0.8}
    post.frame(1, jpeg=b"the other")
    post.script.says = {}
    post.frame(0)
    post.frame(1)
    post.wait(2)
    assert post.types == ["new", "update", "end"]
    shown = [[item.thumbnail.read() for item in told.shown] for told in post.told]
    assert shown == [[b"begins"], [b"begins", b"the other"], [b"begins", b"the other"]]
    assert [[item.camera for item in told.fresh] for told in post.told] == [["cam0"], ["cam1"], []]


def test_a_long_condition_is_said_while_nothing_moves(model: LlavaOnevision) -> None:
    post = Post(model)
    post.put(gate={"for_s": 600})
    post.script.says = {"cam0": 1.0}
    post.frame()
    for _ in range(59):
        post.wait(10)
    assert post.types == []
    post.wait(10)
    assert post.types == ["new"]


def test_frames_that_change_nothing_are_not_asked_about_until_the_look_is_old(model: LlavaOnevision) -> None:
    post = Post(model, least_score=0.5, max_age_s=10)
    post.put(gate={})
    for _ in range(10):
        post.frame(score=0.1)
        post.wait(1)
    assert len(post.script.asked) == 2
    assert post.bench.counters.value("watch_unchanged") == 9
    post.frame(score=0.9)
    assert len(post.script.asked) == 3
    post.wait(10)
    post.bench.engine.turn()
    assert len(post.script.asked) == 4, "without a frame too"


def test_the_share_of_time_is_kept_and_what_is_missed_is_counted(model: LlavaOnevision) -> None:
    post = Post(model, share=0.1)

    def two_seconds() -> None:
        post.bench.clock.now_s += 2

    post.script.costs = two_seconds
    post.put(a={}, b={})
    for _ in range(100):
        post.frame()
        post.wait(1)
    looks, missed = len(post.script.asked), post.bench.counters.value("watch_missed")
    assert 4 <= looks <= 8, "a tenth of the time, and the first burst"
    assert missed == 2 * (100 - looks) or missed == 2 * (100 - looks - 1), "the newest may still wait"
    assert post.man.watches["a"].missed == missed / 2


def test_questions_of_users_go_first(model: LlavaOnevision) -> None:
    post = Post(model)
    post.put(gate={})
    post.bench.ask("mine")
    post.frame()
    assert not post.script.asked or post.bench.answers
    post.bench.settle()
    assert post.bench.answers
    post.bench.engine.turn()
    assert len(post.script.asked) == 1


def test_a_fault_costs_one_look(model: LlavaOnevision) -> None:
    post = Post(model)
    post.put(gate={})
    post.script.broken = True
    post.frame()
    assert post.bench.counters.value("watch_faults") == 1
    post.script.broken, post.script.says = False, {"cam0": 1.0}
    post.wait(1)
    post.frame()
    assert post.types == ["new"]


def test_a_camera_that_is_gone_says_nothing(model: LlavaOnevision) -> None:
    post = Post(model)
    post.put(gate={})
    post.script.says = {"cam0": 1.0}
    post.frame()
    assert post.types == ["new"]
    post.wait(59, seen=False)
    assert post.types == ["new"]
    post.wait(2, seen=False)
    assert post.types == ["new", "end"]


def test_a_changed_question_begins_anew_and_an_equal_one_goes_on(model: LlavaOnevision) -> None:
    post = Post(model)
    post.put(gate={}, other={})
    post.script.says = {"cam0": 1.0}
    post.frame()
    post.put(gate={"severity": "alert"}, other={})
    ended = [(told.name, told.transition.after.reason) for told in post.told if told.transition.type == "end"]
    assert ended == [("gate", "changed")]
    assert post.man.watches["other"].state.on
    post.man.exchange({})
    assert post.told[-1].transition.after.reason == "removed"


def test_a_question_goes_on_where_it_was_left(model: LlavaOnevision) -> None:
    post = Post(model)
    post.put(gate={"for_s": 100})
    post.script.says = {"cam0": 1.0}
    post.frame()
    post.wait(60)
    kept = TypeAdapter(State)
    left = kept.validate_json(kept.dump_json(post.man.watches["gate"].state))
    later = Post(model)
    later.bench.clock.now_s = post.bench.clock.now_s + 39
    later.man.exchange({"gate": spec(for_s=100)}, {"gate": left})
    later.script.says = {"cam0": 1.0}
    later.frame()
    assert later.types == []
    later.wait(1)
    assert later.types == ["new"]


def test_out_of_hours_it_is_not_put_and_its_event_ends(model: LlavaOnevision) -> None:
    post = Post(model)
    post.script.says = {"cam0": 1.0}
    post.bench.clock.now_s = 3 * 86_400.0  # midnight in UTC
    from zoneinfo import ZoneInfo

    post.man.zone = ZoneInfo("UTC")
    post.put(night={"schedule": [{"from": "23:00", "until": "00:01"}]})
    post.frame()
    assert post.types == ["new"]
    post.wait(60)
    assert [told.transition.after.reason for told in post.told[1:]] == ["schedule"]
    post.frame()
    assert post.types == ["new", "end"]


def test_erased_pictures_go(model: LlavaOnevision) -> None:
    post = Post(model)
    post.put(gate={"debounce_s": 5})
    post.script.says = {"cam0": 1.0}
    post.frame(jpeg=b"secret")
    post.man.forget(None, 0, 2000)
    post.wait(5)
    assert [item.thumbnail.read() for item in post.told[0].shown] == []
