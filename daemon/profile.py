"""What `longwatch replay --profile` says: where the milliseconds went, stage by stage, and a trace to look at.

A span without a parent is one piece of work (a picture, a frame, a question); the spans inside it are its stages. What
no stage covers is shown as `other`, so the shares always add up. The trace opens in chrome://tracing and in Perfetto.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from daemon.core import Core
from stream.capture import Capture, CaptureConfig, Opener, Picture, VideoInfo, VideoPacket, open_capture
from stream.errors import LongwatchError
from stream.stages import Recorder, Stages, Timed

ABOUT = {  # what a piece of work is, for the reader
    "picture": "read from the file: decoded, scaled where a gate has to look at it, and judged",
    "frame": "that the gate kept, taken into memory",
    "question": "from its arrival to the end of the answer",
}
OTHER = "other"


class Profile:
    """`with Profile(core, path) as stages:` measures what is given `stages`; at the end report (stderr) and trace."""

    def __init__(self, core: Core, path: Path) -> None:
        queues = core.model.geometry.device.type == "cuda"  # a GPU takes orders and works later
        self._recorder = Recorder(settle=torch.cuda.synchronize if queues else None)
        self._path = path

    def __enter__(self) -> Stages:
        return self._recorder

    def __exit__(self, *_fault: object) -> None:
        spans = self._recorder.spans
        sys.stderr.write("\n".join([*lines(spans, self._recorder.dropped), "", ""]))
        write_trace(self._path, spans)
        sys.stderr.write(f"trace for chrome://tracing or ui.perfetto.dev: {self._path}\n")


class _Measured:
    """A capture that measures what it is asked for."""

    def __init__(self, capture: Capture, stages: Stages) -> None:
        self._capture, self._stages = capture, stages

    @property
    def info(self) -> VideoInfo:
        """See Capture."""
        return self._capture.info

    def packets(self) -> Iterator[VideoPacket]:
        """See Capture."""
        return self._stages.steps("demux", self._capture.packets())

    def decode(self, packet: VideoPacket) -> list[Picture]:
        """See Capture."""
        with self._stages.span("decode"):
            return self._capture.decode(packet)

    def drain(self) -> list[Picture]:
        """See Capture."""
        with self._stages.span("decode"):
            return self._capture.drain()

    def close(self) -> None:
        """See Capture."""
        self._capture.close()


def measured(stages: Stages, opener: Opener = open_capture) -> Opener:
    """`opener`, with `demux` and `decode` of what it opens measured."""

    def opened(config: CaptureConfig) -> Capture:
        return _Measured(opener(config), stages)

    return opened


@dataclass(slots=True)
class Stage:
    """All spans of one name in one place, and the stages inside them. Times in milliseconds."""

    name: str
    each_ms: list[float] = field(default_factory=list)
    inside: dict[str, Stage] = field(default_factory=dict)

    @property
    def total_ms(self) -> float:
        """Of all its spans."""
        return sum(self.each_ms)

    @property
    def other_ms(self) -> float:
        """What no stage inside it covers."""
        return self.total_ms - sum(stage.total_ms for stage in self.inside.values())


def stages(spans: Sequence[Timed]) -> list[Stage]:
    """The pieces of work by name, in the order in which they first ended, and in each its stages.

    A span whose parent was not kept belongs to no piece of work, and is left out.
    """
    children: dict[int | None, list[Timed]] = defaultdict(list)
    for span in spans:
        children[span.parent].append(span)

    def gather(parent: int | None, into: dict[str, Stage]) -> None:
        for span in children[parent]:
            stage = into.setdefault(span.name, Stage(span.name))
            stage.each_ms.append(span.lasted_ns / 1e6)
            gather(span.number, stage.inside)

    found: dict[str, Stage] = {}
    gather(None, found)
    return list(found.values())


def quantile(values: Sequence[float], q: float) -> float:
    """The nearest-rank quantile of at least one value."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def lines(spans: Sequence[Timed], dropped: int = 0) -> Iterator[str]:
    """The report, line by line: one table for each kind of work."""
    for work in stages(spans):
        count, total_ms = len(work.each_ms), work.total_ms
        yield ""
        yield f"{count} x {work.name}" + (f" ({ABOUT[work.name]})" if work.name in ABOUT else "")
        yield f"  {'stage':22}{'count':>8}{'total ms':>12}{'mean ms':>10}{'p50 ms':>10}{'p95 ms':>10}{'share':>9}"
        yield _line(work, 0, total_ms)
        yield from _inside(work, 1, total_ms)
    if dropped:
        yield f"{dropped} spans after the first {len(spans)} are missing here: profile a shorter file"


def _inside(stage: Stage, depth: int, whole_ms: float) -> Iterator[str]:
    """The stages in `stage`, dearest first, and what they leave over."""
    if not stage.inside:
        return
    for part in sorted(stage.inside.values(), key=lambda part: -part.total_ms):
        yield _line(part, depth, whole_ms)
        yield from _inside(part, depth + 1, whole_ms)
    name = "  " * depth + OTHER
    yield f"  {name:22}{'':8}{stage.other_ms:12.1f}{'':30}{_share(stage.other_ms, whole_ms)}"


def _line(stage: Stage, depth: int, whole_ms: float) -> str:
    count, total_ms = len(stage.each_ms), stage.total_ms
    numbers = (total_ms / count, quantile(stage.each_ms, 0.5), quantile(stage.each_ms, 0.95))
    cells = "".join(f"{number:10.2f}" for number in numbers)
    return f"  {'  ' * depth + stage.name:22}{count:8}{total_ms:12.1f}{cells}{_share(total_ms, whole_ms)}"


def _share(part_ms: float, whole_ms: float) -> str:
    return f"{100 * part_ms / whole_ms if whole_ms else 0.0:7.1f} %"


def trace(spans: Sequence[Timed]) -> list[dict[str, Any]]:
    """The spans as complete events of Chrome's trace format, microseconds from the first one on, with thread names.

    An event's category is the piece of work that it is part of.
    """
    threads = {name: number for number, name in enumerate(dict.fromkeys(span.thread for span in spans), 1)}
    begin_ns = min((span.began_ns for span in spans), default=0)
    events: list[dict[str, Any]] = [
        {"name": "thread_name", "ph": "M", "pid": 1, "tid": number, "args": {"name": name}}
        for name, number in threads.items()
    ]
    work: dict[int, str] = {}  # by the number of a span; parents have the smaller ones
    for span in sorted(spans, key=lambda span: span.number):
        work[span.number] = span.name if span.parent is None else work.get(span.parent, "unfinished")
    for span in sorted(spans, key=lambda span: (span.began_ns, -span.lasted_ns)):
        place = {"cat": work[span.number], "pid": 1, "tid": threads[span.thread]}
        times = {"ts": (span.began_ns - begin_ns) / 1000, "dur": span.lasted_ns / 1000}
        events.append({"name": span.name, "ph": "X", **place, **times})
    return events


def write_trace(path: Path, spans: Sequence[Timed]) -> None:
    """The trace as a file. Raises LongwatchError when it cannot be written."""
    rows = ",\n".join(json.dumps(event) for event in trace(spans))
    try:
        path.write_text(f"[\n{rows}\n]\n", encoding="utf-8")
    except OSError as error:
        raise LongwatchError(
            f"{path}: the trace cannot be written ({error.strerror}); choose another --trace"
        ) from None
