"""What does a camera miss that dozes? Streets as H.264 through the real intake, decoded in full and on demand.

Part of `doless.py`. The gate is the daemon's default, one frame a second and only on change; what it keeps of either
goes through a bank of its own, and both are asked the same questions at the same moments. A held packet's picture
comes late, but with its own time: how late is not measured here (`cameras.py` does).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from probes import meant
from streams import Balance, Plan, Stream, draw, questions
from systems import Watch, answer
from tqdm import tqdm

from daemon.core import Core
from daemon.profile import measured, stages
from daemon.settings import parse
from stream import gate
from stream.doze import OFF, Thrift
from stream.intake import Intake, read_file
from stream.stages import Recorder
from stream.train.film import film
from stream.train.questions import right
from stream.train.truth import Truth
from stream.types import Frame

PLAN = Plan("minutes", 2, 5, 8)
LONGEST_S = 240.0  # of a film
SIZE, FPS = (320, 180), 10
IN_FULL = "in full"
WAYS = {
    IN_FULL: OFF,
    "doze_after_s 5": replace(OFF, doze_after_s=5.0),
    "lazy_thumbnails": replace(OFF, lazy_thumbnails=True),
}
PARTS = ("demux", "decode", "scale", "gate", "thumbnail")


@dataclass(slots=True)
class Way:
    """What one way of reading a camera gave and took."""

    frames: list[Frame]
    pictures: int  # that came
    decoded: int
    took_ms: dict[str, float]  # by stage


def read(path: Path, px: int, thrift: Thrift) -> Way:
    """A film as a camera's intake reads it."""
    settings = parse({"cameras": {"street": {"url": "file"}}}, "")
    intake, recorder = (
        Intake("street", (px, px), gate.make(settings.gate), thrift=thrift),
        Recorder(clock_ns=time.process_time_ns),
    )
    intake.stages = recorder
    kept = list(read_file(path, intake, 0.0, measured(recorder)))
    took_ms = {stage.name: stage.total_ms for stage in stages(recorder.spans)}
    frames = [replace(frame, index=number) for number, frame in enumerate(kept)]
    return Way(frames, intake.frames_in, intake.frames_in - intake.skipped["packets"], took_ms)


def compare(core: Core, ways: dict[str, Way], stream: Stream, balance: Balance) -> dict[str, list[bool]]:
    """Whether each way's memory answers right, question by question."""
    found: dict[str, list[bool]] = {name: [] for name in ways}
    budget = core.policy.budget.carriers
    watches = {name: Watch(core, budget, len(way.frames), only=("hybrid",)) for name, way in ways.items()}
    waiting = {name: list(reversed(way.frames)) for name, way in ways.items()}
    for step, items in sorted(questions(stream, PLAN, balance).items()):
        for name, watch in watches.items():
            while waiting[name] and waiting[name][-1].wall_s <= stream.frames[step].wall_s:
                watch.absorb(waiting[name].pop())
        views = {name: watch.banks()["hybrid"] for name, watch in watches.items()}
        for item in items:
            for name, said in answer(core, item.question.text, views).items():
                found[name].append(right(item.question, meant(item, said.text), said.span_s))
    return found


def measure(core: Core) -> tuple[dict[str, list[bool]], dict[str, dict[str, float]]]:
    """By way: every answer, right or not; and its cost: ms a second of film by stage, and shares of pictures."""
    px, balance, seconds = core.model.geometry.image_px, Balance(), 0.0
    rights: dict[str, list[bool]] = {name: [] for name in WAYS}
    read_by: dict[str, list[Way]] = {name: [] for name in WAYS}
    with TemporaryDirectory(prefix="dozing-") as folder:
        for number in tqdm(range(PLAN.streams), desc="films", file=sys.stderr):
            street = draw(PLAN.kind, number, px).street
            street.seconds = min(street.seconds, LONGEST_S)
            path = Path(folder) / f"{number}.mp4"
            film(street, path, SIZE, FPS)
            seconds += street.seconds
            ways = {name: read(path, px, thrift) for name, thrift in WAYS.items()}
            frames = ways[IN_FULL].frames
            truth = Truth.of(street, [frame.wall_s for frame in frames])
            stream = Stream(PLAN.kind, number, street, frames, truth, ways[IN_FULL].pictures)
            for name, hits in compare(core, ways, stream, balance).items():
                rights[name] += hits
                read_by[name].append(ways[name])
    return rights, {name: cost(own, seconds) for name, own in read_by.items()}


def cost(ways: Sequence[Way], seconds: float) -> dict[str, float]:
    """Over all films."""
    row = {part: round(sum(way.took_ms.get(part, 0.0) for way in ways) / seconds, 3) for part in PARTS}
    pictures = sum(way.pictures for way in ways)
    return {
        **row,
        "all": round(sum(row.values()), 3),
        "decoded": round(sum(way.decoded for way in ways) / pictures, 4),
        "kept": sum(len(way.frames) for way in ways),
    }


def show(rows: Mapping[str, Mapping[str, float]]) -> None:
    """Print the table."""
    print(f"\na camera's thread, ms of processor time a second of film ({SIZE[0]}x{SIZE[1]} px, {FPS} a second)")
    heads = "".join(f"{part:>11}" for part in (*PARTS, "all"))
    print(f"{'':17}{'decoded':>9}{'kept':>6}{heads}{'right':>8}{'loss':>7}{'lost':>6}{'won':>5}")
    for name, row in rows.items():
        cells = "".join(f"{row[part]:11.2f}" for part in (*PARTS, "all"))
        against = "" if name == IN_FULL else f"{row['loss']:7.1f}{row['lost']:6}{row['won']:5}"
        print(f"{name:17}{100 * row['decoded']:7.1f} %{row['kept']:6}{cells}{row['right']:8.1f}{against}")
