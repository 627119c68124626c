"""A standing question over a recording, through the daemon's own gate, engine and memory; and how right it was.

Times are seconds of the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from tqdm import tqdm

from daemon.core import Core
from daemon.engine import Camera, Engine
from daemon.metrics import Counters
from daemon.outlook import Outlook
from daemon.replay import CAMERA, FileClock
from daemon.settings import Settings
from daemon.watch.judge import Judge
from daemon.watch.spec import WatchingSettings, WatchSpec
from daemon.watch.watchman import Told, Watchman
from stream import gate
from stream.errors import ConfigError
from stream.intake import Intake, walk_file
from stream.mailbox import Mailbox
from stream.types import Frame

SLACK_S = 2.0  # an event this much before or after what it tells is still of it
Spans = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Found:
    """One transition, and when it was told."""

    type: str
    told_s: float
    start_s: float
    end_s: float | None
    probability: float


@dataclass(frozen=True, slots=True)
class Score:
    """How right the events were. None: there was nothing to measure."""

    events: int
    spans: int
    precision: float | None  # of the events, those that tell of a span
    recall: float | None  # of the spans, those that an event tells of
    median_delay_s: float | None  # from a span's begin to the first event about it being told
    false_alarms_per_hour: float | None


@dataclass(slots=True)
class Trial:
    """Plays `path` once; `seconds` is how far it got."""

    core: Core
    settings: Settings
    name: str
    spec: WatchSpec
    path: Path
    progress: bool = False
    seconds: float = 0.0

    def play(self) -> Iterator[Found]:
        """Transitions as they are told. An event that is open at the end ends there. Raises CameraError."""
        core, clock = self.core, FileClock(0.0)
        if core.encoder.reuse is not None:
            core.encoder.reuse.forget()
        told: list[Told] = []
        outlook = Outlook(newest_s=lambda _camera: clock.now_s, clock=clock)
        judge = Judge.of(core.model, core.policy.positions)
        own = self.settings.watching.model_copy(update={"share": 1.0})  # a file may take the time it needs
        man = Watchman(
            judge, core.model.question_ids, WatchingSettings(**own.model_dump()), outlook, Counters(), told.append
        )
        man.exchange({self.name: self.spec.model_copy(update={"cameras": (), "schedule": (), "enabled": True})})
        mailbox: Mailbox[Frame] = Mailbox(1)
        cameras = {CAMERA: Camera(mailbox, core.bank(CAMERA))}
        engine = Engine(core.encoder, core.recaller(), cameras, self.settings.answer, outlook, Counters())
        engine.watching = man
        side = core.model.geometry.image_px
        intake = Intake(CAMERA, (side, side), gate.make(self.settings.gate))
        bar = tqdm(desc=self.path.name, unit=" frames", disable=None) if self.progress else nullcontext()
        with bar as shown:
            for frame in walk_file(self.path, intake, 0.0):
                if intake.last_wall_s is None:
                    continue
                clock.now_s = self.seconds = intake.last_wall_s
                if frame is not None:
                    mailbox.put(replace(frame))
                engine.turn()
                yield from self._taken(told)
                if shown is not None:
                    shown.update()
        man.exchange({})
        yield from self._taken(told)

    def _taken(self, told: list[Told]) -> Iterator[Found]:
        for item in told:
            event = item.transition.after
            yield Found(item.transition.type, self.seconds, event.start_s, event.end_s, round(event.top, 4))
        told.clear()


def truth(path: Path) -> list[tuple[float, float]]:
    """From JSON `{"spans": [[first_s, last_s], ...]}`: when the answer is yes. Raises ConfigError."""
    try:
        spans = [(float(first_s), float(last_s)) for first_s, last_s in json.loads(path.read_text("utf-8"))["spans"]]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error.__class__.__name__}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f'{path}: not {{"spans": [[first_s, last_s], ...]}}: {error!r}') from error
    for first_s, last_s in spans:
        if not 0 <= first_s <= last_s < float("inf"):
            raise ConfigError(
                f"{path}: the span [{first_s:g}, {last_s:g}] does not go from an earlier second to a later"
            )
    return sorted(spans)


def score(found: Sequence[Found], spans: Spans, seconds: float) -> Score:
    """`found` as it was told over a file of so many seconds, against when the answer is yes."""
    ends = {item.start_s: item.end_s for item in found if item.type == "end"}
    news = [(item.start_s, ends.get(item.start_s) or seconds, item.told_s) for item in found if item.type == "new"]
    hits = {
        span: [told_s for start_s, end_s, told_s in news if _meets(span, start_s, end_s)]
        for span in dict.fromkeys(spans)
    }
    right = sum(any(_meets(span, start_s, end_s) for span in spans) for start_s, end_s, _ in news)
    delays = [min(told) - first_s for (first_s, _), told in hits.items() if told]
    return Score(
        events=len(news),
        spans=len(hits),
        precision=right / len(news) if news else None,
        recall=len(delays) / len(hits) if hits else None,
        median_delay_s=round(median(delays), 3) if delays else None,
        false_alarms_per_hour=round(3600 * (len(news) - right) / seconds, 3) if seconds > 0 else None,
    )


def _meets(span: tuple[float, float], start_s: float, end_s: float) -> bool:
    return start_s <= span[1] + SLACK_S and end_s >= span[0] - SLACK_S
