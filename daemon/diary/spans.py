"""Carriers -> event spans: stretches in which something kept changing, told from the times alone.

    changes   | || |||      |          || | || | || | || | |
    spans     [      ]      []         [longest  ][        ]
                     gap_s

A cut depends on the carriers since the last cut and on nothing else: in whatever batches they come, and wherever the
reading begins anew after a cut, the spans are the same.
"""

from __future__ import annotations

from dataclasses import dataclass

SETTLE_S = 5.0  # carriers come this late, from a full mailbox or a slow disk


@dataclass(frozen=True, slots=True)
class EventSpan:
    """From the first change to the last one. `carrier` is the id of the last carrier, `epoch` as in `Line`."""

    camera: str
    first_s: float
    last_s: float
    carrier: int
    carriers: int = 1
    epoch: int = 0


@dataclass(slots=True)
class Cutter:
    """One camera's; carriers come in order of their ids."""

    camera: str
    gap_s: float
    longest_s: float
    epoch: int = 0
    open: EventSpan | None = None

    def add(self, carrier: int, at_s: float) -> EventSpan | None:
        """A carrier that came at `at_s`; the span that ended before it, if one did."""
        span = self.open
        if span is not None and self._goes_on(span, at_s):
            carriers = span.carriers + 1
            self.open = EventSpan(self.camera, span.first_s, at_s, carrier, carriers, self.epoch)
            return None
        self.open = EventSpan(self.camera, at_s, at_s, carrier, 1, self.epoch)
        return span

    def close(self, now_s: float) -> EventSpan | None:
        """The span that is over because nothing came for long enough."""
        span = self.open
        if span is None or now_s - span.last_s <= self.gap_s + SETTLE_S:
            return None
        self.open = None
        return span

    def _goes_on(self, span: EventSpan, at_s: float) -> bool:
        """A clock that was set back ends a span too."""
        return 0 <= at_s - span.last_s <= self.gap_s and at_s - span.first_s <= self.longest_s
