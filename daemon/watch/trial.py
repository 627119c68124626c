"""A standing question over a recording, through the daemon's own gate, engine and memory; and how right it was.

Times are seconds of the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
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
from daemon.watch.spec import WatchSpec
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

    name: str
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


class Trial:
    """Standing questions over frames of one camera: the daemon's engine and memory, on the frames' own time."""

    def __init__(self, core: Core, settings: Settings, specs: Mapping[str, WatchSpec]) -> None:
        if core.encoder.reuse is not None:
            core.encoder.reuse.forget()  # what was played before must not be seen in it
        self.seconds = 0.0  # how far it got
        self.counters = Counters()
        self._told: list[Told] = []
        self._clock = FileClock(0.0)
        outlook = Outlook(newest_s=lambda _camera: self._clock.now_s, clock=self._clock)
        spends = settings.watching.model_copy(update={"share": 1.0})  # a recording may take the time it needs
        judge = Judge.of(core.model, core.policy.positions)
        self._man = Watchman(
            judge, core.model.question_ids, spends, outlook, self.counters, self._told.append, settings.answer.zone
        )
        always = {"cameras": (), "schedule": (), "enabled": True}
        self._man.exchange({name: spec.model_copy(update=always) for name, spec in specs.items()})
        self.image_px = core.model.geometry.image_px
        self._mailbox: Mailbox[Frame] = Mailbox(1)
        cameras = {CAMERA: Camera(self._mailbox, core.bank(CAMERA))}
        self._engine = Engine(core.encoder, core.recaller(), cameras, settings.answer, outlook, self.counters)
        self._engine.watching = self._man

    def play(self, frame: Frame | None, at_s: float) -> list[Found]:
        """The recording has reached `at_s`; `frame` is what its gate kept there. What is told then."""
        self._clock.now_s = self.seconds = at_s
        if frame is not None:
            self._mailbox.put(replace(frame, camera=CAMERA))
        self._engine.turn()
        return self._taken()

    def end(self) -> list[Found]:
        """An event that is open ends where the recording does."""
        self._man.exchange({})
        return self._taken()

    def _taken(self) -> list[Found]:
        found = []
        for item in self._told:
            event, kind = item.transition.after, item.transition.type
            found.append(Found(item.name, kind, self.seconds, event.start_s, event.end_s, round(event.top, 4)))
        self._told.clear()
        return found


def play(trial: Trial, settings: Settings, path: Path, progress: bool = False) -> Iterator[Found]:
    """Transitions in a recording as they are told, through the settings' gate. Raises CameraError."""
    side = trial.image_px
    intake = Intake(CAMERA, (side, side), gate.make(settings.gate))
    bar = tqdm(desc=path.name, unit=" frames", disable=None) if progress else nullcontext()
    with bar as shown:
        for frame in walk_file(path, intake, 0.0):
            if intake.last_wall_s is not None:  # else damaged from the first picture on
                yield from trial.play(frame, intake.last_wall_s)
            if shown is not None:
                shown.update()
    yield from trial.end()


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


def score(found: Sequence[Found], spans: Spans, seconds: float, unsure: Spans = ()) -> Score:
    """One question's `found`, as it was told over so many seconds, against when the answer is yes.

    Events in `unsure`, when nobody can say, are neither right nor false.
    """
    ends = {item.start_s: item.end_s for item in found if item.type == "end"}
    news = [(item.start_s, ends.get(item.start_s) or seconds, item.told_s) for item in found if item.type == "new"]
    hits = {
        span: [told_s for start_s, end_s, told_s in news if _meets(span, start_s, end_s)]
        for span in dict.fromkeys(spans)
    }
    right, false = 0, 0
    for start_s, end_s, _ in news:
        hit = any(_meets(span, start_s, end_s) for span in spans)
        right += hit
        false += not hit and not any(_meets(span, start_s, end_s) for span in unsure)
    delays = [min(told) - first_s for (first_s, _), told in hits.items() if told]
    return Score(
        events=right + false,
        spans=len(hits),
        precision=right / (right + false) if right + false else None,
        recall=len(delays) / len(hits) if hits else None,
        median_delay_s=round(median(delays), 3) if delays else None,
        false_alarms_per_hour=round(3600 * false / seconds, 3) if seconds > 0 else None,
    )


def _meets(span: tuple[float, float], start_s: float, end_s: float) -> bool:
    return start_s <= span[1] + SLACK_S and end_s >= span[0] - SLACK_S
