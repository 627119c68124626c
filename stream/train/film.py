"""`python -m stream.train.film OUT.mp4`: a street as H.264, and OUT.json with all that happens on it, and when.

For the demo and for tests: a camera whose every event is known.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from tqdm import tqdm

from stream.train.script import Style
from stream.train.things import Thing
from stream.train.world import Street

KEY_EVERY_S = 1.0
LIGHTS = ("day", "dusk", "night", "infrared")
PLAIN = Style(pause_s=2.5, burst=0.0, meet=0.0, parcels=0.0)


def film(street: Street, path: Path, size: tuple[int, int] = (640, 360), fps: int = 10, lead_s: float = 0.0) -> None:
    """Write `street` to `path` (H.264, no B-frames) and its truth to `path` with suffix .json (see `truth`).

    `lead_s` seconds before the street's start come first; times in the JSON count from the start of the file. A gap of
    the camera is one in the file: its pictures are left out, the others keep their times.
    """
    width, height = size
    count = round((street.seconds + lead_s) * fps)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=Fraction(fps))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "23", "bf": "0", "g": str(round(fps * KEY_EVERY_S))}
        for number in tqdm(range(count), desc="drawing the street", unit="frame", delay=2, disable=None):
            t_s = number / fps - lead_s
            if street.fault(t_s) == "gap":
                continue
            picture = av.VideoFrame.from_ndarray(street.render(t_s, width, height), format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, fps)
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    found = {"seconds": count / fps, "fps": fps, "lead_s": lead_s, **truth(street, lead_s)}
    path.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def truth(street: Street, lead_s: float = 0.0) -> dict[str, Any]:
    """All that happens on `street`, ready for JSON; times are seconds, `lead_s` later than the street's own.

    `what` is how a thing can be called by one who saw it: without a colour where it passed in infrared. `passes` is
    false for a parcel, which lies. A fixture's or light's state holds from `t` on.
    """
    events = []
    for event in street.events:
        told = street.coloured(event.first_s) or street.coloured(event.last_s)
        thing = event.thing if told else Thing(event.thing.kind, "")
        entry = {"what": thing.name, "t_start": event.first_s + lead_s, "t_end": event.last_s + lead_s}
        events.append(entry | {"kind": thing.kind, "colour": thing.colour, "passes": event.direction != 0})
        events[-1]["direction"] = {-1: "left", 0: "", 1: "right"}[event.direction]
        if event.halt[0] < event.halt[1]:
            events[-1]["halt"] = [at_s + lead_s for at_s in event.halt]
    fixtures = {
        fixture.kind: [{"t": change.at_s + lead_s, "state": change.state} for change in fixture.changes]
        for fixture in street.fixtures
    }
    faults = [
        {"kind": fault.kind, "t_start": fault.first_s + lead_s, "t_end": fault.last_s + lead_s}
        for fault in street.faults
    ]
    lights = [{"t": change.at_s + lead_s, "state": change.state} for change in street.lights]
    return {"events": events, "fixtures": fixtures, "faults": faults, "lights": lights}


def main() -> None:
    """Draw one street."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--lead", type=float, default=0.0, help="seconds of empty street first")
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--fps", type=int, default=10)
    parser.add_argument("--light", choices=LIGHTS, help="this one, and no other")
    parser.add_argument("--plain", action="store_true", help="one thing at a time, no parcels")
    parser.add_argument("--faults", action="store_true", help="the camera freezes, goes black and fails")
    args = parser.parse_args()
    width, height = (int(part) for part in args.size.split("x"))
    style = PLAIN if args.plain else Style()
    style = replace(style, lights=(args.light,) if args.light else style.lights, faults=args.faults)
    film(Street(args.seed, args.seconds, style), args.out, (width, height), args.fps, args.lead)


if __name__ == "__main__":
    main()
