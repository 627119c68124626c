"""Named counters, gauges and latencies of the process; `<p>/status` publishes them, an exporter can iterate them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "quantile"]
Labels = tuple[tuple[str, str], ...]
Key = tuple[str, Labels]

QUANTILES = (0.5, 0.95, 0.99)
_WINDOW = 512  # newest observations that quantiles look at: recent behaviour, in bounded memory
_MAX_SERIES = 2048  # a name or label made from outside input must not grow memory; more is only counted
_REFUSED: Key = ("series_refused", ())


@dataclass(frozen=True, slots=True)
class Sample:
    """One published number. A quantile's labels hold `q`; the count of its observations is a counter of its own."""

    name: str
    kind: Kind
    labels: Labels
    value: float

    @property
    def key(self) -> str:
        """The name with its labels, e.g. `frames_kept{camera=door}`."""
        inside = ",".join(f"{name}={value}" for name, value in self.labels)
        return f"{self.name}{{{inside}}}" if inside else self.name


class Counters:
    """The registry. Every method may be called from any thread; names carry their unit (`answer_ms`)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[Key, float] = {}
        self._gauges: dict[Key, float] = {}
        self._windows: dict[Key, deque[float]] = {}

    def count(self, name: str, by: float = 1, **labels: str) -> None:
        """Add `by` to a counter, which starts at 0 and never falls."""
        with self._lock:
            if (key := self._admit(name, labels)) is not None:
                self._counts[key] = self._counts.get(key, 0) + by

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a value that goes up and down."""
        with self._lock:
            if (key := self._admit(name, labels)) is not None:
                self._gauges[key] = value

    def observe(self, name: str, value: float, **labels: str) -> None:
        """One measurement, e.g. a latency; quantiles are over the newest 512, the counter `<name>_count` is not."""
        with self._lock:
            if (key := self._admit(name, labels)) is not None:
                self._windows.setdefault(key, deque(maxlen=_WINDOW)).append(value)
                total = (f"{name}_count", key[1])
                self._counts[total] = self._counts.get(total, 0) + 1

    def value(self, name: str, **labels: str) -> float:
        """A counter's or gauge's value; 0 when nothing was recorded."""
        key = (name, _labels(labels))
        with self._lock:
            return self._gauges.get(key, self._counts.get(key, 0))

    def forget(self, **labels: str) -> None:
        """Drop every series that carries these labels: a camera that left the configuration."""
        gone = set(_labels(labels))
        with self._lock:
            for store in (self._counts, self._gauges, self._windows):
                for key in [key for key in store if gone and gone <= set(key[1])]:
                    del store[key]

    def __iter__(self) -> Iterator[Sample]:
        with self._lock:
            counts, gauges = sorted(self._counts.items()), sorted(self._gauges.items())
            windows = sorted((key, sorted(window)) for key, window in self._windows.items())
        for (name, labels), value in counts:
            yield Sample(name, "counter", labels, value)
        for (name, labels), value in gauges:
            yield Sample(name, "gauge", labels, value)
        for (name, labels), window in windows:
            for q in QUANTILES:
                yield Sample(name, "quantile", (*labels, ("q", str(q))), _quantile(window, q))

    def snapshot(self) -> dict[str, float]:
        """Everything as one flat mapping, ready for JSON: `{"answer_ms{q=0.5}": 12.0, ...}`."""
        return {sample.key: round(sample.value, 3) for sample in self}

    def _admit(self, name: str, labels: dict[str, str]) -> Key | None:
        """The series' key, or None when it would be one too many."""
        key = (name, _labels(labels))
        known = key in self._counts or key in self._gauges or key in self._windows
        if known or len(self._counts) + len(self._gauges) + len(self._windows) < _MAX_SERIES:
            return key
        self._counts[_REFUSED] = self._counts.get(_REFUSED, 0) + 1
        return None


def _labels(labels: dict[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


def _quantile(ordered: list[float], q: float) -> float:
    """The nearest-rank quantile: always a value that was observed."""
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]
