"""An answer's small print, for people."""

from __future__ import annotations

from daemon.messages import Answer, Evidence
from daemon.times import ERASED, SPEECH
from stream.types import Span

OLD_S = 5.0  # a newest frame that is older is worth a line


def span(value: Span, now_s: float) -> str:
    """`14:02:10`, `14:02:10-14:02:15`, `yesterday at 14:02`."""
    first, last = SPEECH.clock(value.first_s, now_s), SPEECH.clock(value.last_s, now_s)
    return first if first == last else f"{first}-{last}"


def remainder(answer: Answer, streamed: str) -> str:
    """What is still to be shown of an answer whose pieces were shown as `streamed`: all of it on a line of its own
    when pieces were lost on the way, or when it came to an end other than the one it began with."""
    if answer.text.startswith(streamed):
        return answer.text[len(streamed) :]
    return f"\n{answer.text}"


def notes(answer: Answer) -> list[str]:
    """One line each for status, asked time, evidence, age, gaps, what was read and how long it took; what is missing
    has no line."""
    now_s = answer.answered_s
    lines = [] if answer.status == "ok" else [f"  status: {answer.status}"]
    if asked := SPEECH.between(answer.asked_from_s, answer.asked_to_s, now_s):
        lines.append(f"  asked about the time {asked}")
    if answer.evidence:
        lines.append(f"  evidence: {', '.join(_shown(item, now_s) for item in answer.evidence)}")
    if answer.newest_age_s is not None and answer.newest_age_s > OLD_S:
        lines.append(f"  the newest frame is {answer.newest_age_s:.0f} s old")
    for gap in answer.gaps:
        until = "now" if gap.until_s is None else SPEECH.clock(gap.until_s, now_s)
        word = "erased" if gap.reason == ERASED else "not seen"
        why = "" if gap.reason == ERASED else f" ({gap.reason})"
        lines.append(f"  {word}: {gap.camera} {SPEECH.clock(gap.since_s, now_s)}-{until}{why}")
    if answer.recalled:
        lines.append(f"  read {answer.carriers} moments, {answer.recalled} of them from the archive")
    first = answer.timing.first_token_ms
    took = f"  {answer.timing.total_ms:.0f} ms" + ("" if first is None else f", first word after {first:.0f} ms")
    sure = "" if answer.confidence is None else f", confidence {answer.confidence:.0%}"
    return [*lines, took + sure]


def _shown(item: Evidence, now_s: float) -> str:
    sure = "" if item.confidence is None else f", {item.confidence:.0%} sure"
    return f"{item.camera} {span(item.span, now_s)} ({item.weight:.0%} of the attention{sure})"
