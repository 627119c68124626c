"""The street keeps its word: what its truth says is what its pictures show, in any order, at any length."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.demo.show import prompts
from stream.train.events import Event
from stream.train.film import PLAIN, film, main, truth
from stream.train.script import LONG_S, STATES, Style, hidden
from stream.train.things import COLOURS, KINDS, PAINTS, SIZES, WORDS, Thing
from stream.train.world import Street

GROUND = {"person": 0.97, "dog": 0.97, "cat": 0.97, "bird": 0.22}  # any other: the near lane
BARE = Style(weather=False, fixtures=(), lights=("day",))
MOVERS = [kind for kind in KINDS if kind != "parcel"]
SEEDS = st.integers(0, 2**31 - 1)


def stage(kind: str, colour: str, direction: int = 1, light: str = "day", seed: int = 1) -> Street:
    """A clean street that one thing crosses from 10 to 14 s."""
    street = Street(seed, 0.0, Style(weather=False, fixtures=(), lights=(light,)))
    street.events = (Event(Thing(kind, colour), 10.0, 14.0, direction, ground=GROUND.get(kind, 0.88)),)
    return street


def changed(one: np.ndarray, other: np.ndarray, least: int = 30) -> np.ndarray:
    """Which px differ, bool [H, W]."""
    found: np.ndarray = np.abs(one.astype(int) - other.astype(int)).sum(2) > least
    return found


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, order=st.permutations(range(6)), faults=st.booleans())
def test_a_street_is_what_its_seed_says_in_any_order(seed: int, order: list[int], faults: bool) -> None:
    style = Style(faults=faults, parcels=0.3)
    one, two = Street(seed, 40.0, style), Street(seed, 40.0, style)
    assert (one.events, one.fixtures, one.faults, one.lights) == (two.events, two.fixtures, two.faults, two.lights)
    times_s = [3.7 + 6.1 * number for number in range(6)]
    times_s = [t_s for t_s in times_s if one.fault(t_s) != "gap"]
    straight = {t_s: one.render(t_s, 48, 48) for t_s in times_s}
    for number in order:
        if number < len(times_s):
            two.render(times_s[number], 32, 20)
            assert (two.render(times_s[number], 48, 48) == straight[times_s[number]]).all()


def test_another_seed_is_another_street() -> None:
    assert Street(6, 20.0).events != Street(5, 20.0).events
    assert (Street(6, 0.0, BARE).render(0.0, 32, 32) != Street(5, 0.0, BARE).render(0.0, 32, 32)).any()


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, seconds=st.floats(1.0, 400.0), meet=st.sampled_from([0.0, 0.12, 0.6]))
def test_what_happens_is_possible(seed: int, seconds: float, meet: float) -> None:
    street = Street(seed, seconds, Style(meet=meet, parcels=0.2, burst=0.2))
    firsts = [event.first_s for event in street.events]
    assert firsts == sorted(firsts)
    for event in street.events:
        assert event.first_s < event.last_s
        assert event.thing.colour in PAINTS[event.thing.kind]
        assert (event.direction == 0) == (event.thing.kind == "parcel")
        assert event.visible(event.first_s - 0.01) == event.visible(event.last_s + 0.01) == 0.0
        if event.direction:
            assert 3.0 <= event.last_s - event.first_s - (event.halt[1] - event.halt[0]) <= 7.0
            assert event.visible((event.first_s + event.last_s) / 2) == pytest.approx(1.0)
    for t_s in np.arange(0.0, seconds, 1.7).tolist():
        there = street.at(t_s)
        assert there == [(event, event.visible(t_s)) for event in street.events if event.visible(t_s) > 0]
        kinds = Counter(event.thing.kind == "parcel" for event, _ in there)
        assert kinds[False] <= 2
        assert kinds[True] <= 1


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_who_meets_does_not_hide(seed: int) -> None:
    street = Street(seed, 200.0, Style(meet=0.8, parcels=0.0))
    movers = street.events
    met = [(a, b) for a, b in pairwise(movers) if b.first_s < a.last_s]
    assert met
    for one, other in met:
        assert one.thing != other.thing
        assert hidden(one, other) < 0.45


def test_the_same_thing_seldom_comes_at_once_again() -> None:
    close = pairs = 0
    for seed in range(40):
        events = Street(seed, 120.0, Style(parcels=0.0)).events
        for one, two in pairwise(events):
            pairs += 1
            close += one.thing == two.thing and two.first_s - one.last_s < 6.0
    assert pairs > 400
    assert close / pairs < 0.04


@pytest.mark.parametrize("kind", MOVERS)
@pytest.mark.parametrize("direction", [1, -1])
def test_everything_is_drawn_where_it_is_in_its_colour(kind: str, direction: int) -> None:
    for colour in PAINTS[kind]:
        street = stage(kind, colour, direction)
        event, empty = street.events[0], street.render(0.0, 192, 108)
        drawn = street.render(11.9, 192, 108)
        where = changed(drawn, empty, 60)
        columns, rows = np.flatnonzero(where.any(0)), np.flatnonzero(where.any(1))
        assert len(columns) > 3
        assert abs((columns[0] + columns[-1] + 1) / 2 / 192 - event.centre(11.9)) < 0.3 * event.length + 0.01
        assert columns[-1] - columns[0] < (SIZES[kind][0] + 0.06) * 192
        assert rows[-1] / 108 < event.ground + 0.08
        own = np.abs(drawn[where].astype(int) - np.asarray(COLOURS[colour])).sum(1)
        assert (own < 150).mean() > 0.15, colour  # its own colour is there, up to the exposure


@pytest.mark.parametrize("kind", MOVERS)
@pytest.mark.parametrize("light", ["day", "dusk", "night", "infrared"])
def test_heading_shows(kind: str, light: str) -> None:
    """The same thing at the same place, seen from the other side, is another picture."""
    for colour in PAINTS[kind]:
        right, left = stage(kind, colour, 1, light), stage(kind, colour, -1, light)
        event = right.events[0]
        middle_s = (event.first_s + event.last_s) / 2
        assert event.centre(middle_s) == pytest.approx(left.events[0].centre(middle_s))
        differ = changed(right.render(middle_s, 96, 96), left.render(middle_s, 96, 96))
        assert differ.sum() >= 8, colour


def test_kinds_and_colours_look_different() -> None:
    for light in ("day", "night"):
        things = [Thing(kind, colour) for kind in MOVERS for colour in PAINTS[kind]]
        pictures = [stage(thing.kind, thing.colour, 1, light).render(12.0, 96, 96) for thing in things]
        for number, one in enumerate(pictures):
            for other in pictures[:number]:
                assert changed(one, other, 20).sum() >= 15


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_a_parcel_lies_still_between_put_down_and_taken_away(seed: int) -> None:
    street = Street(seed, 120.0, Style(parcels=1.0, meet=0.0, weather=False, fixtures=(), lights=("day",)))
    parcel = next(event for event in street.events if event.thing.kind == "parcel")
    put_s, taken_s = parcel.halt
    assert parcel.first_s < put_s < taken_s <= parcel.last_s
    assert taken_s - put_s >= 5.0
    inside = np.linspace(put_s, taken_s - 0.01, 9).tolist()
    assert {parcel.centre(t_s) for t_s in inside} == {parcel.centre(put_s)}
    assert all(parcel.visible(t_s) == 1.0 and not parcel.moving(t_s) and not parcel.lift(t_s) for t_s in inside)
    bringer = parcel.carriers[0]
    assert parcel.moving(put_s - 0.01)
    assert parcel.centre(put_s) == pytest.approx(parcel.centre(put_s - 0.01), abs=0.01)
    assert abs(parcel.centre(bringer.halt[0] - 1.0) - bringer.centre(bringer.halt[0] - 1.0)) < 0.1
    if len(parcel.carriers) > 1:
        assert parcel.carriers[1].laden[0] == taken_s
        assert parcel.last_s <= parcel.carriers[1].last_s
    else:
        assert parcel.last_s >= 120.0
    alone = [t_s for t_s in np.arange(put_s, min(taken_s, 120.0), 0.3) if len(street.at(t_s)) == 1]
    pictures = [street.render(float(t_s), 96, 96) for t_s in alone]
    assert all((picture == pictures[0]).all() for picture in pictures[1:])
    street.events = ()
    if pictures:
        where = np.flatnonzero(changed(pictures[0], street.render(put_s, 96, 96)).any(0))
        assert abs((where[0] + where[-1] + 1) / 2 / 96 - parcel.centre(put_s)) < 0.03


@pytest.mark.parametrize("light", ["day", "dusk", "night", "infrared"])
@pytest.mark.parametrize("kind", STATES)
def test_a_fixture_shows_its_state(kind: str, light: str) -> None:
    """At 96 px, in every light; nothing else in the picture changes."""
    shown = {}
    for seed in range(40):
        street = Street(seed, 200.0, Style(weather=False, fixtures=(kind,), lights=(light,)))
        street.events = ()
        assert [fixture.kind for fixture in street.fixtures] == [kind]
        changes = street.fixtures[0].changes
        assert changes[0].at_s == 0.0
        assert all(one.at_s < two.at_s and one.state != two.state for one, two in pairwise(changes))
        for change in changes:
            assert street.fixtures[0].state(change.at_s) == change.state
        shown = {change.state: street.render(change.at_s, 96, 96) for change in changes}
        if len(shown) > 1:
            pictures = list(shown.values())
            for number, one in enumerate(pictures):
                for other in pictures[:number]:
                    where = changed(one, other)
                    assert where.sum() >= 20
                    assert where.mean() < 0.09
            break
    assert len(shown) > 1
    assert set(WORDS) == set(STATES["sign"])


def test_faults_show() -> None:
    kinds = set()
    for seed in range(60):
        street = Street(seed, 60.0, Style(faults=True))
        for fault in street.faults:
            kinds.add(fault.kind)
            inside = np.linspace(fault.first_s, fault.last_s - 0.01, 4).tolist()
            assert {street.fault(t_s) for t_s in inside} == {fault.kind}
            assert street.fault(fault.last_s) == ""
            if fault.kind == "gap":
                with pytest.raises(ValueError, match="no picture"):
                    street.render(inside[1], 32, 32)
                continue
            pictures = [street.render(t_s, 32, 32) for t_s in inside]
            if fault.kind == "frozen":
                assert all((picture == pictures[0]).all() for picture in pictures)
            else:
                assert max(picture.mean() for picture in pictures) < 20
    assert kinds == {"frozen", "black", "gap"}
    assert not Street(1, 60.0).faults


def test_light_shows() -> None:
    mean = {}
    for light in ("day", "dusk", "night", "infrared"):
        street = Street(3, 60.0, Style(lights=(light,), weather=False, fixtures=()))
        picture = street.render(30.0, 96, 96).astype(int)
        mean[light] = picture.mean()
        assert street.light(30.0) == light
        assert street.coloured(30.0) == (light != "infrared")
        street.events = ()
        empty = street.render(30.0, 96, 96).astype(int)
        assert (int(np.ptp(empty, axis=2).max()) == 0) == (light == "infrared")
    assert mean["night"] < mean["dusk"] < mean["day"]


def test_a_day_has_its_course_and_is_quick() -> None:
    began_s = time.process_time()
    street = Street(8, 86_400.0, Style(pause_s=20.0, faults=True))
    assert time.process_time() - began_s < 2.0
    assert len(street.events) > 1500
    hours = Counter(street.light(3600.0 * hour) for hour in range(24))
    assert 10 <= hours["day"] <= 13
    assert hours["night"] + hours["infrared"] >= 9
    assert street.faults
    assert all(one.last_s < two.first_s for one, two in pairwise(street.faults))
    lying = [event.halt[1] - event.halt[0] for event in street.events if event.thing.kind == "parcel"]
    assert max(lying) > 60
    began_s = time.process_time()
    for t_s in range(0, 86_400, 43):
        street.at(float(t_s))
    assert time.process_time() - began_s < 1.0
    assert len({Street(2, LONG_S - 1).light(float(t_s)) for t_s in range(0, 1190, 60)}) == 1


def test_style_is_obeyed() -> None:
    few = Street(4, 300.0, Style(kinds=("car", "dog"), fixtures=("gate",), lights=("night",)))
    assert {event.thing.kind for event in few.events} == {"car", "dog"}
    assert [fixture.kind for fixture in few.fixtures] == ["gate"]
    assert few.light(100.0) == "night"
    still, busy = Street(4, 600.0, Style(pause_s=40.0, burst=0.0)), Street(4, 600.0, Style(pause_s=0.5))
    assert len(busy.events) > 3 * len(still.events)


@pytest.mark.parametrize(("kind", "name", "the"), [
    ("car", "a red car", "the red car"),
    ("person", "a person in red", "the person in red"),
    ("parcel", "a parcel", "the parcel"),
])  # fmt: skip
def test_names(kind: str, name: str, the: str) -> None:
    assert (Thing(kind, "red").name, Thing(kind, "red").the) == (name, the)
    assert Thing(kind, "").name == f"a {kind}"


def test_a_film_and_its_truth(tmp_path: Path) -> None:
    """What is decoded is what was rendered, at its time; a gap is a gap; the demo can ask about it."""
    seed = next(n for n in range(200) if any(f.kind == "gap" for f in Street(n, 12.0, Style(faults=True)).faults))
    street = Street(seed, 12.0, Style(faults=True, weather=False))
    path = tmp_path / "street.mp4"
    film(street, path, (96, 96), fps=5, lead_s=1.0)
    with av.open(str(path)) as film_in:
        decoded = {round(float(frame.time) * 5): frame.to_ndarray(format="rgb24") for frame in film_in.decode(video=0)}
    whole = {number for number in range(65) if street.fault(number / 5 - 1.0) != "gap"}
    assert set(decoded) == whole
    assert len(whole) < 65
    for number in sorted(whole)[::9]:
        drawn = street.render(number / 5 - 1.0, 96, 96)
        assert np.abs(decoded[number].astype(int) - drawn).mean() < 12
    told = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert told["seconds"] == 13.0
    assert [event["t_start"] for event in told["events"]] == [event.first_s + 1.0 for event in street.events]
    assert set(told) == {"seconds", "fps", "lead_s", "events", "fixtures", "faults", "lights"}
    assert len(told["faults"]) == len(street.faults)
    assert told["lights"][0] == {"t": 1.0, "state": street.light(0.0)}


def test_infrared_has_no_colour_in_the_truth() -> None:
    street = Street(5, 30.0, Style(lights=("infrared",)))
    assert {event["colour"] for event in truth(street)["events"]} == {""}


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_the_demo_asks_only_what_its_street_settles(seed: int) -> None:
    """The thing asked about now is alone in view, and the past is what came before the street was clear."""
    street = Street(seed, 30.0, replace(PLAIN, lights=("day",)))
    asked = prompts({"seconds": 32.0, **truth(street, 2.0)})
    assert [event.thing.name for event, _ in street.at(asked[0].at_s - 2.0)] == [asked[0].truth]
    gone = [event for event in street.events if event.first_s + 2.0 < asked[1].at_s][: int(asked[3].truth)]
    assert [asked[1].truth, asked[2].truth] == [gone[0].thing.name, gone[-1].thing.name]
    assert all(event.last_s + 2.0 < asked[1].at_s for event in gone)


def test_the_demo_leaves_out_parcels_and_prefers_what_is_alone() -> None:
    cast = [("a person in red", 3.0, 9.0, True), ("a parcel", 3.0, 40.0, False), ("a red car", 10.0, 14.0, True)]
    events = [{"what": what, "t_start": begin, "t_end": end, "passes": passes} for what, begin, end, passes in cast]
    asked = prompts({"events": events, "seconds": 42.0})
    assert [prompt.truth for prompt in asked[1:4]] == ["a person in red", "a red car", "2"]
    events[1]["t_end"] = 9.5
    assert prompts({"events": events, "seconds": 42.0})[0].truth == "a red car"


@pytest.mark.parametrize("more", [(), ("--plain", "--light", "night"), ("--faults",)])
def test_a_film_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]) -> None:
    path = tmp_path / "a.mp4"
    monkeypatch.setattr("sys.argv", ["film", "--seconds", "1", "--size", "64x64", *more, str(path)])
    main()
    assert path.stat().st_size > 0
    told = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert told["lights"][0]["state"] == "night" or "night" not in more
