"""How much does a gate save, and what does it miss? Real clips, their still stretches and their events.

    python bench/gate.py [--videos DIR] [--size 96] [--gate '[{"stride": {"fps": 2}}, {"still": {}}]'] [--doze 5]

Columns: `kept` share of all frames that reached the gate; `still` share kept inside the clip's still stretches;
`recall` share of events in which at least one frame was kept (an event starts a little before its first second:
the manifest is precise to about 1 s); `start` the same within 1.5 s of an event's start, leaving out those that
begin with the clip; `ms` time per judged frame; `decoded` share of the frames that were decoded at all, which is less
than all with `--doze`. Events of which nothing was kept are named. Ends with one JSON line.
A camera runs for months, so the clip is first played in a loop for `--warm` seconds, and the pass after that counts.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from tqdm import tqdm

from stream.doze import OFF
from stream.gate import Chain, make
from stream.intake import PACKETS, Intake, judged_file
from stream.policy import Paper
from stream.types import Frame, Verdict

SLACK_S = 0.5  # precision of the manifest
SOON_S = 1.5
DEFAULT = '[{"stride": {"fps": 2}}, {"still": {}}]'


class Timed:
    """A gate with a stopwatch."""

    paper: ClassVar[Paper] = Paper("stopwatch", "", "baseline")
    looks: ClassVar[bool] = True

    def __init__(self, gate: Chain) -> None:
        self._gate = gate
        self.spent_s = 0.0

    def judge(self, frame: Frame) -> Verdict:
        """As the inner gate, measured."""
        begin_s = time.perf_counter()
        verdict = self._gate.judge(frame)
        self.spent_s += time.perf_counter() - begin_s
        return verdict


@dataclass(frozen=True, slots=True)
class Row:
    """One clip's line of the table."""

    clip: str
    frames: int  # that reached the last gate
    kept: int
    still_frames: int
    still_kept: int
    events: int
    seen: int
    starts: int
    started: int
    ms: float
    coded: int  # frames in the clip
    decoded: int
    missed: tuple[str, ...]


def measure(clip: dict[str, Any], folder: Path, intake: Intake, gate: Timed, warm_s: float) -> Row:
    """Run the gate over one clip. A `stride` at its head only thins; it is not what is judged."""
    pass_s = clip["seconds"] + 0.1
    for turn in range(1 + math.ceil(warm_s / pass_s)):
        gate.spent_s = 0.0
        coded, held = intake.frames_in, intake.skipped[PACKETS]
        judged = list(judged_file(folder / clip["file"], intake, turn * pass_s))
        seen = [(frame.pts_s, verdict) for frame, verdict in judged if verdict.reason != "stride"]
    kept_s = [at_s for at_s, verdict in seen if verdict.keep]
    quiet = [(at_s, verdict) for at_s, verdict in seen[1:] if any(a + SLACK_S <= at_s <= b for a, b in clip["static"])]
    spans = [(event["t_start"], event["t_end"]) for event in clip["events"]]
    spans = [(a, b) for a, b in spans if not any(c - 1 <= a and b <= d + 1 for c, d in clip["static"])]  # "room empty"
    late = [a for a, _ in spans if a > SOON_S]
    missed = [event["what"] for event in clip["events"] if (event["t_start"], event["t_end"]) in spans]
    missed = [what for what, (a, b) in zip(missed, spans, strict=True) if not seen_in(kept_s, a - SLACK_S, b)]
    coded, held = intake.frames_in - coded, intake.skipped[PACKETS] - held
    return Row(
        clip["file"],
        len(seen),
        len(kept_s),
        len(quiet),
        sum(verdict.keep for _, verdict in quiet),
        len(spans),
        len(spans) - len(missed),
        len(late),
        sum(seen_in(kept_s, a - SLACK_S, a + SOON_S) for a in late),
        1000 * gate.spent_s / max(1, len(seen)),
        coded,
        coded - held,
        tuple(missed),
    )


def seen_in(kept_s: list[float], from_s: float, to_s: float) -> bool:
    """Whether something was kept between these times."""
    return any(from_s <= at_s <= to_s for at_s in kept_s)


def share(part: int, whole: int) -> str:
    """`part / whole` in per cent, or a dash."""
    return f"{100 * part / whole:5.0f}%" if whole else "     -"


def show(row: Row) -> str:
    """A line of the table."""
    shares = [(row.kept, row.frames), (row.still_kept, row.still_frames), (row.seen, row.events)]
    cells = " ".join(share(*pair) for pair in [*shares, (row.started, row.starts)])
    return f"{row.clip:28} {row.frames:6} {cells} {row.ms:6.2f} {share(row.decoded, row.coded):>7}"


def total(rows: list[Row]) -> Row:
    """All rows added up; time is the mean per frame."""
    sums = {key: sum(asdict(row)[key] for row in rows) for key in Row.__slots__ if key not in ("clip", "ms", "missed")}
    missed = tuple(f"{row.clip}: {what}" for row in rows for what in row.missed)
    ms = sum(row.ms * row.frames for row in rows) / max(1, sums["frames"])
    return Row(clip="all", ms=ms, missed=missed, **sums)


def main() -> None:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    default = Path(__file__).resolve().parents[2] / "shared" / "videos"
    parser.add_argument("--videos", type=Path, default=default, help="folder with manifest.json")
    parser.add_argument("--size", type=int, default=96, help="side of the model's picture, px")
    parser.add_argument("--warm", type=float, default=60.0, help="seconds of looping before the pass that counts")
    parser.add_argument("--gate", default=DEFAULT, help="gates as in the configuration, as JSON")
    parser.add_argument("--doze", type=float, default=0.0, help="seconds of stillness, then key frames only; 0: never")
    arguments = parser.parse_args()
    manifest = arguments.videos / "manifest.json"
    if not manifest.exists():
        sys.exit(f"{manifest}: not found; give the folder of the clips with --videos")
    spec = json.loads(arguments.gate)
    clips = json.loads(manifest.read_text(encoding="utf-8"))["clips"]
    print(f"{'clip':28} {'frames':>6} {'kept':>6} {'still':>6} {'recall':>6} {'start':>6} {'ms':>6} {'decoded':>7}")
    thrift = replace(OFF, doze_after_s=arguments.doze)
    rows = []
    for clip in tqdm(clips, unit="clip", delay=2, leave=False):
        gate = Timed(make(spec))
        intake = Intake(clip["file"], (arguments.size, arguments.size), gate, thrift=thrift)
        rows.append(measure(clip, arguments.videos, intake, gate, arguments.warm))
        tqdm.write(show(rows[-1]))
    print(show(total(rows)))
    for what in total(rows).missed:
        print(f"missed: {what}")
    result = {
        "bench": "gate",
        "gate": spec,
        "size": arguments.size,
        "warm_s": arguments.warm,
        "doze_s": arguments.doze,
        "clips": [asdict(row) for row in rows],
    }
    print(json.dumps({**result, "all": asdict(total(rows))}))


if __name__ == "__main__":
    main()
