"""What a frame shows, as a probe is taught it: as a whole, thing by thing, and cell by cell."""

from __future__ import annotations

import numpy as np
import pytest

from stream.train.events import Change, Event, Fault, Fixture
from stream.train.script import Style
from stream.train.things import Thing
from stream.train.truth import FACTS, SIGHTS, UNSURE, Truth, cells, facts, recaps, sights
from stream.train.world import Street

CALM = Style(lights=("day",), weather=False, fixtures=())


def street(*events: Event, style: Style = CALM) -> Street:
    made = Street(1, 20.0, style)
    made.events = events
    return made


def said(row: np.ndarray) -> dict[str, str]:
    return {name: SIGHTS[name][at] for name, at in zip(SIGHTS, row, strict=True) if at != UNSURE}


CAR = Event(Thing("car", "red"), 2.0, 8.0, 1, ground=0.9)
BIRD = Event(Thing("bird", "blue"), 4.0, 9.0, -1, ground=0.3)
NONE = {"gate": "none", "light": "none", "sign": "none"}


def test_one_thing_is_told_whole() -> None:
    truth = Truth.of(street(CAR), [0.5, 5.0, 2.3])
    empty, car, sliver = (said(row) for row in sights(truth))
    assert empty == {"kind": "nothing", "hour": "day", **NONE}
    assert car == {"kind": "car", "colour": "red", "where": "middle", "way": "to the right", "hour": "day", **NONE}
    assert sliver == {"hour": "day", **NONE}
    known = facts(truth)
    assert {FACTS[at] for at in np.flatnonzero(known[1] == 1)} == {"car", "red car"}
    assert {FACTS[at] for at in np.flatnonzero(known[2] == -1)} == {"car", "red car"}
    assert (known[0] == 0).all()


def test_two_things_are_told_one_by_one() -> None:
    truth = Truth.of(street(CAR, BIRD), [6.0])
    assert "kind" not in said(sights(truth)[0])
    assert {FACTS[at] for at in np.flatnonzero(facts(truth)[0] == 1)} == {"car", "red car", "bird", "blue bird"}


def test_cells_say_what_stands_where() -> None:
    """Six rows, six columns: the car low in the middle, the bird high, nothing in the corners."""
    at_s = (CAR.first_s + CAR.last_s) / 2
    kind = np.asarray([*SIGHTS["kind"]])
    colour = np.asarray([*SIGHTS["colour"]])
    grid = cells(Truth.of(street(CAR), [at_s]), (6, 6))[0].reshape(6, 6, 2)
    assert set(kind[grid[4, 2:4, 0]]) == {"car"}
    assert set(colour[grid[4, 2:4, 1]]) == {"red"}
    assert kind[grid[0, 0, 0]] == "nothing"
    assert grid[0, 0, 1] == UNSURE
    both = cells(Truth.of(street(CAR, BIRD), [6.5]), (6, 6))[0].reshape(6, 6, 2)
    assert "bird" in kind[both[1, :, 0][both[1, :, 0] != UNSURE]]
    assert "bird" not in kind[both[4:, :, 0][both[4:, :, 0] != UNSURE]]


def test_boxes_hold_what_is_drawn() -> None:
    """The pixels that a thing changes lie in its box."""
    for event in (CAR, BIRD):
        shown = street(event)
        at_s = (event.first_s + event.last_s) / 2
        before, after = (shown.render(t_s, 192, 192).astype(int) for t_s in (0.5, at_s))
        rows, columns = np.nonzero(np.abs(after - before).sum(2) > 60)
        left, top, right, bottom = (share * 192 for share in event.box(at_s))
        assert left - 4 <= columns.min() < columns.max() <= right + 4
        assert top - 8 <= rows.min() < rows.max() <= bottom + 8


@pytest.mark.parametrize("light", ["night", "infrared"])
def test_the_dark(light: str) -> None:
    truth = Truth.of(street(CAR, style=Style(lights=(light,), weather=False, fixtures=())), [5.0])
    told = said(sights(truth)[0])
    assert told["hour"] == "night"
    assert told["kind"] == "car"
    assert ("colour" in told) == (light == "night")
    assert (facts(truth)[0, FACTS.index("red car")] == 1) == (light == "night")


def test_a_black_picture_shows_nothing_else() -> None:
    shown = street(CAR)
    object.__setattr__(shown._script, "faults", (Fault("black", 4.0, 6.0),))
    object.__setattr__(shown._script, "fixtures", (Fixture("gate", (Change(0.0, "open"),)),))
    truth = Truth.of(shown, [5.0, 7.0])
    assert said(sights(truth)[0]) == {"hour": "black"}
    assert said(sights(truth)[1])["gate"] == "open"
    assert (cells(truth, (6, 6))[0, :, 0] == 0).all()


def test_what_came_before_is_told_while_it_is_remembered() -> None:
    dog = Event(Thing("dog", "black"), 10.0, 16.0, 1, ground=0.8)
    truth = Truth.of(street(CAR, dog), [0.5, 5.0, 9.0, 13.0, 18.0])
    assert told(truth, [(), (0,), (0, 1), (0, 1, 2), (0, 1, 2, 3)]) == [
        ("nothing", "", 0),
        ("nothing", "", 1),
        ("car", "red", 1),
        ("car", "red", 2),
        ("dog", "black", 2),
    ]
    assert told(truth, [(), (), (), (0,), (3,)])[2:] == [("", "", ""), ("", "", ""), ("dog", "black", "")]


def test_nobody_says_what_came_before_two_things_or_a_sliver() -> None:
    met = Truth.of(street(CAR, BIRD), [0.5, 6.0, 8.8])
    assert told(met, [(), (0,), (0, 1)])[1] == ("", "", 2), "two are in view"
    sliver = Truth.of(street(CAR), [0.5, 2.3])
    assert told(sliver, [(), (0,)])[1] == ("", "", "")
    together = Truth.of(street(CAR, Event(Thing("cat", "gray"), 2.0, 8.0, -1, ground=0.6)), [0.5, 5.0, 12.0])
    assert told(together, [(), (0,), (0, 1)])[2] == ("", "", 2), "neither came last"


def told(truth: Truth, held: list[tuple[int, ...]]) -> list[tuple[str, str, int | str]]:
    kinds, colours = SIGHTS["kind"], SIGHTS["colour"]
    return [
        (
            "" if kind == UNSURE else kinds[kind],
            "" if colour == UNSURE else colours[colour],
            "" if count == UNSURE else int(count),
        )
        for kind, colour, count in recaps(truth, [frozenset(frames) for frames in held])
    ]
