"""The street: a procedural camera with exact ground truth, from seconds to days long.

A seeded script (`script.py`) says what happens, a seeded scene (`scene.py`) where. The same street renders at any size
and time, so training draws 96 px squares and the demo writes H.264 of the same events.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from PIL import Image, ImageDraw

from stream.train.events import Change, Event, Fault, Fixture, state_at
from stream.train.scene import THING, Lens, Scene, backdrop, lighting, make
from stream.train.script import Script, Style, write
from stream.train.things import COLOURS, RGB, Coat, Pen, Pose, paint

KEPT = 24  # backdrops of one street kept at a time
GAIT = 9.0  # radians a second


class Street:
    """A camera on a street for `seconds`, fully determined by `seed` and `style`. Times are seconds from its start."""

    def __init__(self, seed: int, seconds: float, style: Style | None = None) -> None:
        self.seed, self.seconds, self.style = seed, seconds, style or Style()
        self.scene: Scene = make(np.random.default_rng((seed, 99)), self.style.weather)
        self._script: Script = write(seed, seconds, self.style)
        self._place(self._script.events)
        self._still: dict[tuple[object, ...], Image.Image] = {}
        self._lens: dict[tuple[int, int], Lens] = {}

    @property
    def events(self) -> tuple[Event, ...]:
        """What comes and goes, by first_s."""
        return self._events

    @events.setter
    def events(self, events: tuple[Event, ...]) -> None:
        self._place(events)

    @property
    def fixtures(self) -> tuple[Fixture, ...]:
        """Gate, light and sign, those that there are."""
        return self._script.fixtures

    @property
    def faults(self) -> tuple[Fault, ...]:
        """When the camera fails, by first_s."""
        return self._script.faults

    @property
    def lights(self) -> tuple[Change, ...]:
        """When the light changes; the first at 0.0. See `light`."""
        return self._script.lights

    def at(self, t_s: float) -> list[tuple[Event, float]]:
        """What is in the picture at `t_s`, with the visible share of each."""
        first = bisect_right(self._latest, t_s)  # all events before that one are over
        last = bisect_right(self._firsts, t_s)
        return [(event, share) for event in self._events[first:last] if (share := event.visible(t_s)) > 0]

    def light(self, t_s: float) -> str:
        """`day`, `dusk`, `night` or `infrared`."""
        return state_at(self._script.lights, t_s)

    def coloured(self, t_s: float) -> bool:
        """Whether colours can be told: not in infrared."""
        return self.light(t_s) != "infrared"

    def fault(self, t_s: float) -> str:
        """`frozen`, `black`, `gap`, or nothing."""
        found = self._fault(t_s)
        return found.kind if found else ""

    def render(self, t_s: float, width: int, height: int) -> np.ndarray:
        """The picture at `t_s`, uint8 [height, width, 3]; drawn at twice the size and averaged.

        Raises ValueError inside a gap, where there is no picture.
        """
        fault = self._fault(t_s)
        if fault is not None and fault.kind == "gap":
            raise ValueError(
                f"the camera gave no picture from {fault.first_s:.1f} s to {fault.last_s:.1f} s; asked {t_s}"
            )
        if fault is not None and fault.kind == "frozen":
            t_s = fault.first_s - 1e-3
            if self._fault(t_s) is not None:
                return self.render(t_s, width, height)
        rng = np.random.default_rng((self.seed, int(t_s * 1000) & 0xFFFFFFFF))
        light = self.light(t_s)
        if (width, height) not in self._lens:
            self._lens[width, height] = Lens(self.scene, (width, height))
        lens = self._lens[width, height]
        if fault is not None and fault.kind == "black":
            return lens.finish(np.full((height, width, 3), 5.0, np.float32), rng, "day")
        canvas = self._drawn(t_s, light, (2 * width, 2 * height))
        if state_at(self._script.weather, t_s) == "rain":
            lens.rain(ImageDraw.Draw(canvas), rng, canvas.size, light)
        return lens.finish(np.asarray(canvas.reduce(2), dtype=np.float32), rng, light)

    def _place(self, events: tuple[Event, ...]) -> None:
        self._events = events
        self._firsts = [event.first_s for event in events]
        self._latest = np.maximum.accumulate([event.last_s for event in events] or [0.0]).tolist()

    def _fault(self, t_s: float) -> Fault | None:
        number = bisect_right(self.faults, t_s, key=lambda fault: fault.first_s) - 1
        return self.faults[number] if number >= 0 and t_s < self.faults[number].last_s else None

    def _drawn(self, t_s: float, light: str, size: tuple[int, int]) -> Image.Image:
        states = {fixture.kind: fixture.state(t_s) for fixture in self.fixtures}
        key = (size, light, *states.values())
        if key not in self._still:
            while len(self._still) >= KEPT:
                self._still.pop(next(iter(self._still)))
            self._still[key] = backdrop(self.scene, light, states, size)
        canvas = self._still[key].copy()
        draw = ImageDraw.Draw(canvas)
        lit = lighting(self.scene, light, THING)
        for event, _ in sorted(self.at(t_s), key=lambda item: (item[0].ground, item[0].first_s)):
            body = COLOURS[event.thing.colour]
            shade: RGB = (int(body[0] * 0.62), int(body[1] * 0.62), int(body[2] * 0.62))
            moving = event.moving(t_s)
            swing = float(np.sin((t_s - event.first_s) * GAIT)) if moving else 0.0
            pose = Pose(
                left=event.centre(t_s) - event.length / 2,
                ground=event.ground - event.rise(t_s),
                length=event.length,
                tall=event.tall,
                flip=event.direction < 0,
                phase=swing,
                still=not moving,
                dark=light in ("night", "infrared"),
                laden=event.laden[0] <= t_s < event.laden[1],
            )
            paint(Pen(draw, pose, size), event.thing.kind, Coat(lit(body), lit(shade), lit))
        return canvas
