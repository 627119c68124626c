"""How people put a question: a small grammar, typos, upper and lower case; and the text a tokeniser is made from.

A pattern's `(a|b|)` stands for any one of its branches; `{the}` and the like are filled with names. Every pattern is
expanded once, so a template is a plain sentence.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from functools import cache

import numpy as np

from stream.train.asking import BLACK, NO, NOT_SEEN, NOTHING, YES
from stream.train.things import KINDS, PAINTS, WORDS, Thing
from stream.train.truth import MOVERS

PATTERNS: dict[str, tuple[str, ...]] = {
    "now_what": (
        "what (is visible|do you see|can you see|is there|is on the street|is in the picture)( right|) now?",
        "what is (going on|happening)( now|)?",
        "(tell me|describe) what you see( now|)",
        "(anything there|who is there|what's there)( now|)?",
        "now?",
    ),
    "now_is": (
        "is there {a}( right now| now|)?",
        "(do|can) you see {a}( now|)?",
        "is {a} (visible|in view|in the picture)( now|)?",
        "{a} (there now|in view now)?",
    ),
    "now_colour": (
        "what colour is {the}( now|)?",
        "which colour (is|has) {the}( now|)?",
        "what colour does {the} have( now|)?",
        "(tell me |)the colour of {the} now",
        "{the}: which colour now?",
    ),
    "now_where": (
        "where is {the}( now| right now|)?",
        "on which side is {the}( now|)?",
        "(tell me |)where {the} is now",
        "is {the} left, right or in the middle?",
    ),
    "now_gate": (
        "(what state is the gate in|how is the gate)( now|)?",
        "is the gate open or closed( now|)?",
        "(tell me |)the state of the gate( now|)",
        "gate?",
        "gate open or closed?",
    ),
    "now_gate_is": (
        "is the gate {state}( now| right now| at the moment|)?",
        "(please check if|check whether) the gate is {state}",
        "the gate is {state}( now|), (right|isn't it)?",
        "gate {state}?",
    ),
    "now_light": (
        "what colour is the traffic light( right now| now|)?",
        "what does the traffic light show( now|)?",
        "(which colour has|how is) the traffic light( now|)?",
        "is the traffic light red or green( now|)?",
        "(tell me what the traffic light shows|traffic light?)",
        "the traffic light now?",
    ),
    "now_sign": (
        "what does the sign say( now| right now|)?",
        "what is (written|) on the sign( now|)?",
        "read (me |)the sign( now| please|)",
        "(which word is on the|the) sign( now|)?",
    ),
    "now_day": (
        "is it (day or night|night or day|dark or bright)( now| there|)?",
        "(tell me |)day or night( now|)?",
        "is it night( now|) or day?",
    ),
    "now_count": (
        "how many things (do you see|are there|are visible|are in the picture)( right|) now?",
        "count (the things|what) (in view|you see) now",
        "how many( things|) now?",
    ),
    "fault_picture": (
        "is the (picture|camera|image) (all right|ok|fine|working)( now|)?",
        "(can you see anything at all|does the camera work)( now|)?",
        "(check the|how is the) (picture|camera|image)( now|)",
    ),
    "seen": (
        "did (you see |){a}( pass| come by| go by|)?",
        "have you seen {a}( pass| go by|)?",
        "has {a} (passed|been here|come by)?",
        "was there {a}?",
        "was {a} (here|there|seen)( earlier| before|)?",
        "(tell me if|say whether) {a} passed",
        "any sign of {a}?",
        "{a}?",
        "ever seen {a}?",
    ),
    "colour_of": (
        "what colour was {the}( that passed| you saw|)?",
        "what colour did {the} have?",
        "which colour (was|had) {the}( that passed|)?",
        "(tell me |)the colour of {the}( that passed| you saw|)",
        "colour of {the}?",
    ),
    "direction": (
        "which way did {the} (go|drive|move)?",
        "(where did|to which side did|in which direction did) {the} (go|leave|move)?",
        "(tell me |)which way {the} went",
        "direction of {the}?",
        "did {the} go left or right?",
    ),
    "stopped": (
        "did {the} (stop|stand still|wait|halt)( for a while| somewhere| on the way|)?",
        "(tell me if|say whether) {the} stopped",
        "{the}: did it stop?",
    ),
    "first": (
        "what (passed|came|went by|was seen) first?",
        "what was the first thing (you saw|that passed|to pass|that came by)?",
        "which thing (passed|came) first?",
        "(tell me|name) the first thing that passed",
        "first thing?",
    ),
    "last": (
        "what (passed|came|went by|was seen) last?",
        "what was the last thing (you saw|that passed|to pass|that came by)?",
        "what (passed|came) most recently?",
        "(tell me|name) the last thing that passed",
        "last thing?",
    ),
    "after": (
        "what (came|passed|went by|followed)( right|) after {the}?",
        "what was (next|the next thing) after {the}?",
        "after {the}, what (came|passed)( next|)?",
        "(tell me |)what followed {the}",
        "next after {the}?",
    ),
    "before": (
        "what (came|passed|went by)( right| just|) before {the}?",
        "what was (the thing |)right before {the}?",
        "before {the}, what (came|passed)?",
        "(tell me |)what preceded {the}",
        "just before {the}?",
    ),
    "which_first": (
        "(which|what) (came|passed|was) first, {the} or {other}?",
        "(who|which one) was earlier, {the} or {other}?",
        "{the} or {other}: which (came|was) first?",
        "first: {the} or {other}?",
    ),
    "sequence": (
        "(in which|what) order did things pass?",
        "(list|name|tell me) (everything|all things) (that passed |)in order",
        "what passed, in order?",
        "what passed one after another?",
    ),
    "count_all": (
        "how many things (passed|have passed|came by|have you seen|went by)( so far| in all|)?",
        "count (the things that passed|everything that passed|all that passed)",
        "number of things that passed?",
        "how much traffic was there?",
    ),
    "count_kind": (
        "how many {many} (passed|came by|have you seen|did you see|were there)( so far|)?",
        "count the {many}( that passed|)",
        "(tell me |)the number of {many}",
        "{many}, how many?",
        "how often did {many} pass?",
    ),
    "when_ago": (
        "when did {the} (pass|come by|come|appear)?",
        "how long ago (did {the} pass|was {the} there)?",
        "how long ago did you see {the}?",
        "tell me when {the} (passed|came)",
        "when was {the} (here|there)?",
    ),
    "when_clock": (
        "at what time did {the} (pass|come|come by|appear)?",
        "what time was it when {the} (passed|came)?",
        "(tell me |)the time when {the} passed",
        "{the}: at what time?",
    ),
    "last_seen": (
        "when did {a} last (pass|come by)?",
        "when did you last see {a}?",
        "when was the last time {a} (passed|came by)?",
        "how long since {a} passed?",
        "when was {a} last (seen|here)?",
        "the last time you saw {a}?",
    ),
    "how_long_view": (
        "how long was {the} (in view|visible|there|in the picture)?",
        "for how long (did you see|was there) {the}?",
        "how long did {the} (stay|take)?",
        "tell me how long {the} was (there|in view)",
    ),
    "how_long_parcel": (
        "how long (has the parcel been there|did the parcel lie there|was the parcel there)?",
        "for how long (was the parcel|has the parcel been) there?",
        "tell me how long the parcel (lay|was) there",
        "parcel: how long?",
    ),
    "how_long_gate": (
        "how long (was the gate|has the gate been) open( last time|)?",
        "for how long (was the gate|did the gate stay) open?",
        "tell me how long the gate was open",
        "gate open: how long?",
    ),
    "then_gate": (
        "was the gate {state} when {the} (passed|came|was there)?",
        "when {the} passed, was the gate {state}?",
        "(tell me if|say whether) the gate was {state} when {the} passed",
        "gate {state} when {the} (passed|came)?",
    ),
    "then_light": (
        "what colour was the traffic light when {the} (passed|came|was there)?",
        "when {the} passed, (what did the traffic light show|was the light red or green)?",
        "(tell me |)the traffic light when {the} passed",
        "was the traffic light red or green when {the} (passed|came)?",
    ),
    "then_sign": (
        "what did the sign say when {the} (passed|came|was there)?",
        "when {the} passed, what (did the sign say|was on the sign)?",
        "(tell me |)the sign when {the} passed",
        "which word was on the sign when {the} (passed|came)?",
    ),
}
STANDING: dict[str, tuple[str, ...]] = {  # no part of `corpus`: words of the others, or spelt
    "stand_is": (
        "is there {a}( right now| now|)?",
        "(do|can) you see {a}( now|)?",
        "is {a} (visible|in view|in the picture|there)( now|)?",
        "{a} in view?",
    ),
    "stand_any": (
        "is (anything|something) (there|in view|in the picture|visible)( right now| now|)?",
        "can you see anything( now|)?",
    ),
    "stand_empty": ("is the (street|picture) empty( right now| now|)?",),
    "stand_parcel": (
        "(is|does) a parcel (lie|lying) there( now|)?",
        "has somebody left a parcel?",
        "was a parcel left there?",
    ),
    "stand_gate": ("is the gate {state}( now| right now| at the moment|)?", "does the gate stand {state}?"),
    "stand_light": (
        "is the traffic light {state}( now| right now|)?",
        "does the traffic light show {state}( now|)?",
        "traffic light {state}?",
    ),
    "stand_sign": ("does the sign say {state}( now|)?", "is {state} (written|) on the sign( now|)?"),
    "stand_hour": ("is it {hour}( now| right now| there|)?",),
    "stand_black": (
        "is the (picture|camera|image) (all |)black( now| right now|)?",
        "is the (camera|picture) covered( now|)?",
    ),
    "stand_side": ("is {a} {side}( now| right now|)?", "is there {a} {side}( now|)?"),
}
OPENINGS = ("", "", "", "", "", "", "please: ", "hey, ", "ok, ", "so ", "quick question: ")
LOUD = 40  # characters: what is shouted takes more tokens, and only short questions are
ALL = {**PATTERNS, **STANDING}
_BRANCH = re.compile(r"\(([^()]*)\)")


def expand(pattern: str) -> Iterator[str]:
    """Every sentence of a pattern."""
    found = _BRANCH.search(pattern)
    if found is None:
        yield " ".join(pattern.split()).replace(" ?", "?").replace(" ,", ",")
        return
    for branch in found.group(1).split("|"):
        yield from expand(pattern[: found.start()] + branch + pattern[found.end() :])


@cache
def templates(key: str) -> tuple[str, ...]:
    """All sentences for a kind of question."""
    return tuple(dict.fromkeys(itertools.chain.from_iterable(expand(pattern) for pattern in ALL[key])))


def phrase(key: str, slots: Mapping[str, str], rng: np.random.Generator, typos: float = 0.0) -> str:
    """One wording of a question; with chance `typos` it holds a slip of the finger."""
    known = templates(key)
    text = known[int(rng.integers(len(known)))].format_map(slots)
    if len(text) < 40:
        text = OPENINGS[int(rng.integers(len(OPENINGS)))] + text
    luck = rng.random()
    if luck < 0.3:
        text = text[0].upper() + text[1:]
    elif luck < 0.34 and len(text) <= LOUD:
        text = text.upper()
    if rng.random() < 0.15:
        text = text.rstrip("?")
    return slip(text, rng) if rng.random() < typos else text


def slip(text: str, rng: np.random.Generator) -> str:
    """`text` with one letter dropped, doubled, or swapped with the next."""
    places = [place for place in range(1, len(text) - 1) if text[place].isalpha() and text[place + 1].isalpha()]
    if not places:
        return text
    at = places[int(rng.integers(len(places)))]
    kind = int(rng.integers(3))
    if kind == 0:
        return text[:at] + text[at + 1 :]
    if kind == 1:
        return text[:at] + text[at] + text[at:]
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def names() -> list[Thing]:
    """Everything that may be asked about, with and without its colour."""
    things = [Thing(kind, colour) for kind in MOVERS for colour in PAINTS[kind]]
    return [*things, *(Thing(kind, "") for kind in KINDS)]


def corpus() -> list[str]:
    """Text for a byte-level BPE in which every word of the grammar, of names and of answers is one token."""
    lines: list[str] = []
    words: set[str] = set()
    for key in PATTERNS:
        for template in templates(key):
            plain = re.sub(r"\{\w+\}", "", template)
            words.update(re.findall(r"[A-Za-z']+", plain))
            lines.append(plain)
            if len(plain) <= LOUD:
                lines.append(plain.upper())
    said = [thing.name for thing in names()] + [thing.the for thing in names()]
    said += [f"{colour} people buses {kind}s" for kind in KINDS for colour in PAINTS[kind]]
    said += [NOTHING, YES, NO, NOT_SEEN, BLACK, "to the left", "to the right", "on the left", "on the right"]
    said += ["in the middle", "open", "closed", "day", "night", "at ", "for ", "and", *"0123456789", *WORDS]
    for text in said:
        words.update(re.findall(r"[A-Za-z']+", text))
    lines += said * 6
    for word in sorted(words):
        lines += [word, f" {word}", f" {word}"] * 12 + [word.capitalize()] * 4
    return lines
