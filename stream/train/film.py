"""`python -m stream.train.film OUT.mp4`: a street as H.264, and OUT.json with what passes when.

For the demo and for tests: a camera whose every event is known.
"""

from __future__ import annotations

import argparse
import json
from fractions import Fraction
from pathlib import Path

import av
from tqdm import tqdm

from stream.train.world import Street

KEY_EVERY_S = 1.0


def film(street: Street, path: Path, size: tuple[int, int] = (640, 360), fps: int = 10, lead_s: float = 0.0) -> None:
    """Write `street` to `path` (H.264, no B-frames) and its events to `path` with suffix .json.

    `lead_s` seconds of empty street come first; event times in the JSON count from the start of the file.
    """
    width, height = size
    count = round((street.seconds + lead_s) * fps)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=Fraction(fps))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "23", "bf": "0", "g": str(round(fps * KEY_EVERY_S))}
        for number in tqdm(range(count), desc="drawing the street", unit="frame", delay=2, disable=None):
            picture = av.VideoFrame.from_ndarray(street.render(number / fps - lead_s, width, height), format="rgb24")
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    events = [
        {"what": event.thing.name, "t_start": event.first_s + lead_s, "t_end": event.last_s + lead_s}
        for event in street.events
    ]
    truth = {"seconds": count / fps, "fps": fps, "lead_s": lead_s, "events": events}
    path.with_suffix(".json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Draw one street."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--lead", type=float, default=0.0, help="seconds of empty street first")
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--fps", type=int, default=10)
    args = parser.parse_args()
    width, height = (int(part) for part in args.size.split("x"))
    film(Street(args.seed, args.seconds), args.out, (width, height), args.fps, args.lead)


if __name__ == "__main__":
    main()
