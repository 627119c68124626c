"""An answer's small print, for people."""

from __future__ import annotations

from datetime import datetime

from daemon.messages import Answer
from stream.types import Span


def clock(at_s: float) -> str:
    """Local time of day; with the date when it is not today."""
    at = datetime.fromtimestamp(at_s).astimezone()
    today = datetime.now().astimezone().date()
    return at.strftime("%H:%M:%S" if at.date() == today else "%Y-%m-%d %H:%M:%S")


def span(value: Span) -> str:
    """`14:02:10` or `14:02:10-14:02:15`."""
    first, last = clock(value.first_s), clock(value.last_s)
    return first if first == last else f"{first}-{last}"


def remainder(answer: Answer, streamed: str) -> str:
    """What is still to be shown of an answer whose pieces were shown as `streamed`: all of it on a line of its own
    when pieces were lost on the way, or when it came to an end other than the one it began with."""
    if answer.text.startswith(streamed):
        return answer.text[len(streamed) :]
    return f"\n{answer.text}"


def notes(answer: Answer) -> list[str]:
    """One line each for status, evidence, age, gaps and time taken; what is missing has no line."""
    lines = [] if answer.status == "ok" else [f"  status: {answer.status}"]
    if answer.evidence:
        seen = ", ".join(f"{item.camera} {span(item.span)} ({item.weight:.0%})" for item in answer.evidence)
        lines.append(f"  evidence: {seen}")
    if answer.newest_age_s is not None and answer.newest_age_s > 5:
        lines.append(f"  the newest frame is {answer.newest_age_s:.0f} s old")
    for gap in answer.gaps:
        until = "now" if gap.until_s is None else clock(gap.until_s)
        lines.append(f"  not seen: {gap.camera} {clock(gap.since_s)}-{until} ({gap.reason})")
    first = answer.timing.first_token_ms
    took = f"  {answer.timing.total_ms:.0f} ms" + ("" if first is None else f", first word after {first:.0f} ms")
    sure = "" if answer.confidence is None else f", confidence {answer.confidence:.0%}"
    return [*lines, took + sure]
