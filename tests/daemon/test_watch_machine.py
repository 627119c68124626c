"""The standing question's state machine: examples, and what holds whatever the cameras say."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from daemon.watch.machine import State, Transition, close, lose, step
from daemon.watch.spec import WatchSpec

STATE = TypeAdapter(State)
CAMERAS = ("door", "yard")


@dataclass
class Watch:
    """A machine that remembers what it told."""

    spec: WatchSpec
    state: State = field(default_factory=State)
    told: list[tuple[float, Transition]] = field(default_factory=list)

    def at(self, now_s: float, **seen: float | None) -> list[str]:
        self.state, told = step("gate", self.spec, self.state, now_s, seen)
        self.told += [(now_s, item) for item in told]
        return [item.type for item in told]


def spec(**fields: object) -> WatchSpec:
    return WatchSpec.model_validate({"question": "is the gate open?", **fields})


def test_it_is_said_after_the_debounce_and_ends_after_it() -> None:
    watch = Watch(spec(debounce_s=2))
    assert watch.at(100, door=0.9) == []
    assert watch.at(101, door=0.9) == []
    assert watch.at(102, door=0.9) == ["new"]
    assert watch.at(110, door=0.1) == []
    assert watch.at(111, door=0.9) == [], "a short no is none"
    assert watch.at(112, door=0.1) == []
    assert watch.at(114, door=None) == ["end"], "time passes without a new picture too"
    event = watch.told[-1][1].after
    assert (event.start_s, event.end_s, event.cameras, event.reason) == (100, 112, ("door",), "over")
    assert watch.told[0][1].before.open is False


def test_open_longer_than_ten_minutes() -> None:
    watch = Watch(spec(for_s=600, debounce_s=5))
    watch.at(0, door=1.0)
    assert watch.at(599.9) == []
    assert watch.at(600) == ["new"]
    watch.at(700, door=0.0)
    assert watch.at(705) == ["end"]


def test_a_still_picture_between_two_looks_was_as_it_was() -> None:
    watch = Watch(spec(debounce_s=2))
    watch.at(0, door=1.0)
    assert watch.at(10, door=0.0) == ["new"]
    assert watch.at(20, door=1.0) == ["end"]


def test_hysteresis_keeps_what_lies_between() -> None:
    watch = Watch(spec(debounce_s=0, on_above=0.8, off_below=0.3))
    assert watch.at(0, door=0.7) == []
    assert watch.at(1, door=0.8) == ["new"]
    assert watch.at(2, door=0.3) == []
    assert watch.at(3, door=0.29) == ["end"]


def test_cameras_that_see_the_same_moment_are_one_event() -> None:
    watch = Watch(spec(debounce_s=3))
    watch.at(0, door=0.9)
    assert watch.at(3) == ["new"]
    assert watch.at(4, door=0.1) == []
    assert watch.at(6, yard=0.9) == ["update"], "within the debounce of the other's end"
    assert watch.at(7, yard=0.1) == []
    assert watch.at(10) == ["end"]
    assert watch.told[-1][1].after.cameras == ("door", "yard")


def test_cooldown_and_what_goes_on_after_it() -> None:
    watch = Watch(spec(debounce_s=0, cooldown_s=60))
    watch.at(0, door=1.0)
    watch.at(1, door=0.0)
    assert watch.at(2, door=1.0) == []
    assert watch.at(60.9) == []
    assert watch.at(61) == ["new"], "still so when the time is over"


def test_what_a_lost_camera_said_counts_no_longer() -> None:
    watch = Watch(spec(debounce_s=1))
    watch.at(0, door=1.0)
    assert watch.at(1) == ["new"]
    watch.state, told = lose("gate", watch.spec, watch.state, 5, "door")
    assert told == ()
    assert watch.at(6) == ["end"]


def test_closing_ends_the_open_event_at_once() -> None:
    watch = Watch(spec(debounce_s=0))
    watch.at(0, door=1.0)
    state, told = close(watch.state, 3, "schedule")
    assert [(item.type, item.after.reason, item.after.end_s) for item in told] == [("end", "schedule", 3)]
    assert not state.on
    assert close(state, 4, "schedule")[1] == ()


def test_a_clock_that_is_set_back_keeps_lengths() -> None:
    watch = Watch(spec(debounce_s=0, for_s=100))
    watch.at(10_000, door=1.0)
    watch.at(10_050)
    assert watch.at(6_400) == [], "an hour back: fifty of a hundred seconds are over"
    assert watch.at(6_449) == []
    assert watch.at(6_450) == ["new"]


def test_events_of_the_last_hour_are_counted() -> None:
    watch = Watch(spec(kind="count", debounce_s=0))
    for minute in range(0, 90, 10):
        watch.at(60.0 * minute, door=1.0)
        watch.at(60.0 * minute + 5, door=0.0)
    assert watch.state.last_hour(60.0 * 90) == 5
    assert watch.state.last_hour(1e6) == 0


PROBABILITY = st.one_of(st.none(), st.floats(0, 1), st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0]))
STEPS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0, 2.0, 7.0, 40.0]), st.sampled_from(CAMERAS), PROBABILITY), max_size=60
)
SPECS = st.builds(
    lambda debounce_s, for_s, cooldown_s, limits: spec(
        debounce_s=debounce_s, for_s=for_s, cooldown_s=cooldown_s, on_above=max(limits), off_below=min(limits)
    ),
    st.sampled_from([0.0, 1.0, 3.0]),
    st.sampled_from([0.0, 2.0, 10.0]),
    st.sampled_from([0.0, 5.0, 30.0]),
    st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)),
)


@settings(max_examples=150, deadline=None)
@given(SPECS, STEPS, st.integers(0, 60))
def test_whatever_is_seen(own: WatchSpec, steps: list[tuple[float, str, float | None]], restart: int) -> None:
    watch, other = Watch(own), Watch(own)
    now_s, last_end_s = 1000.0, None
    latest: dict[str, float] = {}
    for number, (passed_s, camera, probability) in enumerate(steps):
        now_s += passed_s
        if number == restart:
            other.state = STATE.validate_json(STATE.dump_json(other.state))
        before = len(watch.told)
        watch.at(now_s, **{camera: probability})
        other.at(now_s, **{camera: probability})
        for _, item in watch.told[before:]:
            was = dict(latest)
            if item.type == "new":
                assert now_s - item.after.start_s >= max(own.debounce_s, own.for_s)
                assert last_end_s is None or now_s - last_end_s >= own.cooldown_s
            if item.type == "end":
                last_end_s = now_s
                seen = was if probability is None or own.debounce_s > 0 else {**was, camera: probability}
                assert all(value < own.off_below or value < own.on_above for value in seen.values())
                assert item.after.end_s is not None
                assert item.after.start_s <= item.after.end_s <= now_s
        if probability is not None:
            latest[camera] = probability
    assert other.told == watch.told, "a restart changes nothing"
    kinds = [item.type for _, item in watch.told if item.type != "update"]
    assert kinds == ["new", "end"] * (len(kinds) // 2) + ["new"] * (len(kinds) % 2), "never two open at once"
    assert watch.state.on == bool(len(kinds) % 2)


@settings(max_examples=100, deadline=None)
@given(SPECS, STEPS)
def test_with_one_camera_it_ends_only_below_the_lower_limit(
    own: WatchSpec, steps: list[tuple[float, str, float | None]]
) -> None:
    watch, now_s, low = Watch(own), 0.0, True
    for passed_s, _, probability in steps:
        now_s += passed_s
        was_on, low_before = watch.state.on, low
        if probability is not None:
            low = probability < own.off_below or (low and probability < own.on_above)
        if "end" in watch.at(now_s, door=probability) and was_on:
            assert low or low_before
