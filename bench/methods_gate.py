"""Gates at equal shares of the frames kept: what the codec says of a rendered street, options tuned to a share, clips.

A gate is tuned on the pictures of the streams that are asked about, not on their questions: how much a gate by change
keeps differs so much from street to street that shares would not be equal otherwise. What it keeps of clips differs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from gate import SLACK_S, SOON_S, seen_in
from methods_cost import left
from methods_math import matched
from methods_rows import FAULTS, kind, percent, table, takes
from streams import FPS, MAKERS, SEED, Stream

from stream import gate
from stream.intake import Intake, judged_file
from stream.model import Model
from stream.train.truth import Truth
from stream.types import Frame

STEPS = 9  # of the search
LOOK_FPS = 1.0  # of real clips, as of streets
# the options that say how much is kept, all with the same value, and the range to look in
KNOBS: dict[str, tuple[tuple[str, ...], float, float]] = {
    "gate/random": (("share",), 0.01, 1.0),
    "gate/stride": (("fps",), 0.01, 1.0),
    "gate/still": (("threshold",), 1.0, 255.0),
    "gate/grt": (("threshold",), 1e-3, 2.0),
    "gate/kffocus": (("ratio",), 1.001, 4.0),
    "gate/codes": (("share",), 1e-4, 1.0),
    "gate/novelty": (("least",), 1e-5, 2.0),
    "tower/tempme": (("early", "late"), 0.01, 0.9),
}
PLAIN = {"tower": (("keep",), 0.02, 1.0)}  # of methods that are not named above, where they have these options


Tuned = tuple[dict[str, dict[str, Any]], dict[str, str]]  # options by `method@budget`; faults by row


def coded(frames: Sequence[Frame], fps: float = FPS) -> list[Frame]:
    """`frames` with what H.264 says of them: picture type and packet size. One packet a picture, key frames at cuts."""
    with av.open("street.mp4", "w", format="null") as out:
        height, width = frames[0].image.shape[:2]
        stream = out.add_stream("libx264", rate=Fraction(fps))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "23", "bf": "0", "tune": "zerolatency"}
        packets = []
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame.image), format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1) / Fraction(fps)
            packets += stream.encode(picture)
        packets += stream.encode(None)
    told = [(packet.is_keyframe, packet.size) for packet in packets if packet.size]
    return [replace(frame, key_frame=key, packet_bytes=size) for frame, (key, size) in zip(frames, told, strict=True)]


def street(name: str, number: int, px: int) -> Stream:
    """Stream `number` of a kind (`streams.py`) without any gate: every frame, with what a codec says of it."""
    rng = np.random.default_rng((SEED, sorted(MAKERS).index(name), number))
    makers = MAKERS[name]
    made = makers[number % len(makers)](int(rng.integers(2**31, 2**32)), rng)
    times = [at_s for at_s in np.arange(0.5, made.seconds, 1.0 / FPS).tolist() if made.fault(at_s) != "gap"]
    frames = [Frame("street", place, 0, at_s, at_s, made.render(at_s, px, px)) for place, at_s in enumerate(times)]
    return Stream(name, number, made, coded(frames), Truth.of(made, times), len(frames))


def kept(method: str, options: Mapping[str, Any], frames: Sequence[Frame]) -> list[Frame]:
    """What a gate, made anew, keeps of `frames`."""
    judge = gate.make([{method: options}]).judge
    return [frame for frame in frames if judge(frame).keep]


def tuned_gates(shown: Sequence[Sequence[Frame]], budgets: Sequence[str]) -> Tuned:
    """Options by `method@budget` that keep the budget's share of the streams in `shown`, and what has none."""
    count = sum(map(len, shown))

    def share(method: str, options: Mapping[str, Any]) -> float:
        return sum(len(kept(method, options, frames)) for frames in shown) / count

    return _tuned("gate", budgets, share)


def tuned_towers(model: Model, frame: Frame, budgets: Sequence[str]) -> Tuned:
    """Options by `method@budget` that leave the budget's share of a frame's patches, and what has none."""

    def share(method: str, options: Mapping[str, Any]) -> float:
        return left(kind("tower", method)(**options), model, frame)

    return _tuned("tower", budgets, share)


def _tuned(stage: str, budgets: Sequence[str], share: Callable[[str, Mapping[str, Any]], float]) -> Tuned:
    found: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    for method in table(stage):
        names, low, high = KNOBS.get(f"{stage}/{method}", PLAIN.get(stage, ((), 0.0, 0.0)))
        if not names:
            continue

        def at(value: float, method: str = method, names: tuple[str, ...] = names) -> float:
            return share(method, dict.fromkeys(names, value))

        try:
            for budget in budgets if set(names) <= takes(stage, method) else ():
                value = matched(at, low, high, percent(budget), STEPS)
                found[f"{method}@{budget}"] = dict.fromkeys(names, float(f"{value:.4g}"))
        except FAULTS as error:
            failed[f"{stage}/{method}"] = f"{type(error).__name__}: {error}"[:300]
    return found, failed


# -- real clips --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Clip:
    """A real clip as `stride` gives it, and what is known of it."""

    file: str
    frames: list[Frame]
    static: list[tuple[float, float]]
    events: list[tuple[float, float]]


def clips(folder: Path, px: int, most: int | None = None, fps: float = LOOK_FPS) -> list[Clip]:
    """The clips of a folder with a manifest.json, shortest first; none where there is no such folder."""
    manifest = folder / "manifest.json"
    if not manifest.exists():
        return []
    told = sorted(json.loads(manifest.read_text(encoding="utf-8"))["clips"], key=lambda clip: clip["seconds"])
    found = []
    for clip in told[:most]:
        intake = Intake(clip["file"], (px, px), gate.make([{"stride": {"fps": fps}}]))
        frames = [frame for frame, verdict in judged_file(folder / clip["file"], intake, 0.0) if verdict.keep]
        frames = [replace(frame, camera="street", index=number) for number, frame in enumerate(frames)]
        static = [(a, b) for a, b in clip["static"]]
        events = [(event["t_start"], event["t_end"]) for event in clip["events"]]
        events = [(a, b) for a, b in events if not any(c - 1 <= a and b <= d + 1 for c, d in static)]  # "room empty"
        found.append(Clip(clip["file"], frames, static, events))
    return found


def on_clips(shown: Sequence[Clip], method: str, options: Mapping[str, Any]) -> dict[str, float]:
    """What a gate keeps of real clips: share of all, share inside still stretches, share of events seen and begun."""
    count = held = quiet = quiet_held = events = seen = starts = begun = 0
    for clip in shown:
        passed = [frame.pts_s for frame in kept(method, options, clip.frames)]
        still = [at_s for at_s in (frame.pts_s for frame in clip.frames[1:]) if _inside(at_s, clip.static)]
        late = [a for a, _ in clip.events if a > SOON_S]
        count, held = count + len(clip.frames), held + len(passed)
        quiet, quiet_held = quiet + len(still), quiet_held + sum(at_s in passed for at_s in still)
        events += len(clip.events)
        seen += sum(seen_in(passed, a - SLACK_S, b) for a, b in clip.events)
        starts, begun = starts + len(late), begun + sum(seen_in(passed, a - SLACK_S, a + SOON_S) for a in late)
    return {
        "clip_kept": round(held / max(1, count), 4),
        "clip_still": round(quiet_held / max(1, quiet), 4),
        "clip_recall": round(seen / max(1, events), 4),
        "clip_start": round(begun / max(1, starts), 4),
    }


def _inside(at_s: float, stretches: Sequence[tuple[float, float]]) -> bool:
    return any(a + SLACK_S <= at_s <= b for a, b in stretches)
