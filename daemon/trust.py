"""How far an answer can be believed: its confidence, that of its evidence, and whether anything supports it at all.

A checkpoint that was trained to point shows before its first word what an answer rests on. Where that is nothing, and
the answer is no denial, it is a guess, and a guess is not given. The numbers are on the checkpoint's card; they are
measured by `bench/reliability.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stream.types import Trust

_EDGE = 1e-4  # log-odds of what looks certain are cut here


@dataclass(frozen=True, slots=True)
class Judged:
    """What one camera's part of an answer becomes."""

    text: str
    seen: bool  # whether something that is remembered supports it; also true for a denial such as `no`
    confidence: float  # chance that it is right
    supported: bool = True  # whether the pointer rests on something: what is said may be shown before it is whole


def judge(text: str, confidence: float, support: float | None, trust: Trust | None, least: float | None) -> Judged:
    """`text` as it is given. `confidence`: mean probability of its tokens; `support`: see `Session.support`.

    `least`: the configured support, None takes the card's. Without `support` or a card nothing is held back.
    """
    if trust is None:
        return Judged(text, seen=True, confidence=confidence)
    said = " ".join(text.lower().split()).rstrip(".!")
    sure = chance(trust.answer, confidence, 1.0 if support is None else support)
    supported = support is None or support >= (trust.support if least is None else least)
    if said == trust.unseen.lower():
        return Judged(text, seen=False, confidence=sure, supported=supported)
    if supported or said in trust.denials:
        return Judged(text, seen=True, confidence=sure, supported=supported)
    return Judged(trust.unseen, seen=False, confidence=1.0 - sure, supported=False)


def shown(weight: float, trust: Trust | None) -> float | None:
    """Chance that a moment with this share of the attention shows what was asked for; None where nothing is known."""
    return None if trust is None else chance((*trust.evidence,), weight)


def chance(weights: tuple[float, ...], *shares: float) -> float:
    """Logistic in the log-odds of `shares`; the last weight is the constant."""
    total = weights[-1] + sum(weight * odds(share) for weight, share in zip(weights[:-1], shares, strict=True))
    return 0.5 + 0.5 * math.tanh(total / 2)  # the logistic function, for any total


def odds(share: float) -> float:
    """Log-odds of a share, cut where it looks certain."""
    inside = min(max(share, _EDGE), 1.0 - _EDGE)
    return math.log(inside / (1.0 - inside))
