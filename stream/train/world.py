"""The street: a procedural camera with exact ground truth.

A seeded scene (sky, houses, pavement, road, light, lens) through which things pass one after another. The same
street renders at any size and time, so training draws 96 px squares and the demo writes H.264 of the same events.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "red": (200, 35, 30),
    "blue": (35, 70, 205),
    "green": (30, 150, 55),
    "yellow": (235, 205, 40),
    "white": (240, 240, 240),
    "black": (25, 25, 28),
}
KINDS = ("car", "truck", "bus", "bike", "person", "dog")
# length and height as shares of the picture's width and height
SIZES = {"car": (0.26, 0.20), "truck": (0.36, 0.32), "bus": (0.46, 0.34), "bike": (0.20, 0.26), "person": (0.09, 0.36)}
SIZES["dog"] = (0.18, 0.17)


@dataclass(frozen=True, slots=True)
class Thing:
    """What passes. `name` is how answers call it."""

    kind: str
    colour: str

    @property
    def name(self) -> str:
        """`a red car`, `a person in red`."""
        return f"a person in {self.colour}" if self.kind == "person" else f"a {self.colour} {self.kind}"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing on its way through the picture; it touches the picture from first_s to last_s."""

    thing: Thing
    first_s: float
    last_s: float
    direction: int  # +1 left to right, -1 right to left
    scale: float
    ground: float  # where its feet are, share of the picture's height

    def centre(self, t_s: float) -> float:
        """Where its middle is, share of the picture's width."""
        half = SIZES[self.thing.kind][0] * self.scale / 2
        way = (t_s - self.first_s) / (self.last_s - self.first_s)
        at = -half + way * (1 + 2 * half)
        return at if self.direction > 0 else 1 - at

    def visible(self, t_s: float) -> float:
        """Share of the thing that is in the picture, 0..1."""
        if not self.first_s <= t_s <= self.last_s:
            return 0.0
        half = SIZES[self.thing.kind][0] * self.scale / 2
        at = self.centre(t_s)
        return max(0.0, min(1.0, at + half) - max(0.0, at - half)) / (2 * half)


@dataclass(frozen=True, slots=True)
class Scene:
    """What does not move."""

    sky: RGB
    houses: tuple[tuple[float, float, float, RGB], ...]  # left, right, top, colour
    pavement: RGB
    road: RGB
    horizon: float
    kerb: float
    light: float  # 1 = day
    tint: tuple[float, float, float]
    noise: float  # standard deviation, grey levels


class Street:
    """A camera on a street for `seconds`, fully determined by `seed`. Times are seconds from its start."""

    def __init__(self, seed: int, seconds: float, *, empty: float = 0.35) -> None:
        rng = np.random.default_rng(seed)
        self.seconds = seconds
        self.scene = _scene(rng)
        self.events = _events(rng, seconds, empty)
        self._noise = np.random.default_rng(seed + 1)
        self._still: dict[tuple[int, int], Image.Image] = {}

    def at(self, t_s: float) -> list[tuple[Event, float]]:
        """What is in the picture at `t_s`, with the visible share of each."""
        return [(event, share) for event in self.events if (share := event.visible(t_s)) > 0]

    def render(self, t_s: float, width: int, height: int) -> np.ndarray:
        """The picture at `t_s`, uint8 [height, width, 3]; drawn at twice the size and averaged."""
        size = (2 * width, 2 * height)
        if size not in self._still:
            self._still[size] = _backdrop(self.scene, size)
        canvas = self._still[size].copy()
        draw = ImageDraw.Draw(canvas)
        for event, _ in self.at(t_s):
            _thing(draw, event, t_s, size)
        picture = np.asarray(canvas.reduce(2), dtype=np.float32)
        picture = picture * np.asarray(self.scene.tint, dtype=np.float32) * self.scene.light
        picture += self._noise.normal(0.0, self.scene.noise, picture.shape[:2])[..., None].astype(np.float32)
        return picture.clip(0, 255).astype(np.uint8)


def _scene(rng: np.random.Generator) -> Scene:
    def grey(low: int, high: int, spread: int = 12) -> RGB:
        base = rng.integers(low, high)
        red, green, blue = (int(np.clip(base + rng.integers(-spread, spread + 1), 0, 255)) for _ in range(3))
        return red, green, blue

    horizon, kerb = rng.uniform(0.30, 0.42), rng.uniform(0.50, 0.58)
    houses, left = [], 0.0
    while left < 1:
        right = left + rng.uniform(0.12, 0.35)
        red, green, blue = grey(90, 190, 40)
        houses.append((left, right, horizon - rng.uniform(0.05, 0.28), (red, green, blue)))
        left = right + (rng.uniform(0.0, 0.1) if rng.random() < 0.4 else 0.0)
    return Scene(
        sky=(int(rng.integers(130, 190)), int(rng.integers(170, 215)), int(rng.integers(205, 245))),
        houses=tuple(houses),
        pavement=grey(140, 185),
        road=grey(85, 125, 6),
        horizon=horizon,
        kerb=kerb,
        light=rng.uniform(0.62, 1.08),
        tint=tuple(rng.uniform(0.94, 1.06, 3).tolist()),
        noise=rng.uniform(0.0, 5.0),
    )


def _events(rng: np.random.Generator, seconds: float, empty: float) -> tuple[Event, ...]:
    """Things one after another, never two at once; a pause after each with probability `empty`-ish length."""
    events: list[Event] = []
    t_s = float(rng.uniform(0.0, 3.0))
    while t_s < seconds:
        kind = KINDS[rng.integers(len(KINDS))]
        thing = Thing(kind, list(COLOURS)[rng.integers(len(COLOURS))])
        crossing_s = float(rng.uniform(2.2, 4.5))
        ground = rng.uniform(0.50, 0.60) if kind in ("person", "dog") else rng.uniform(0.66, 0.92)
        scale = float(rng.uniform(0.85, 1.2))
        direction = 1 if rng.random() < 0.5 else -1
        events.append(Event(thing, t_s, t_s + crossing_s, direction, scale, float(ground)))
        t_s += crossing_s + float(rng.exponential(4.0 * empty) + 0.3)
    return tuple(events)


def _backdrop(scene: Scene, size: tuple[int, int]) -> Image.Image:
    width, height = size
    canvas = Image.new("RGB", size, scene.sky)
    draw = ImageDraw.Draw(canvas)
    for left, right, top, colour in scene.houses:
        draw.rectangle((left * width, top * height, right * width, scene.horizon * height), fill=colour)
        window = (colour[0] // 2, colour[1] // 2, colour[2] // 2)
        for row in np.arange(top + 0.03, scene.horizon - 0.04, 0.09):
            for column in np.arange(left + 0.025, right - 0.03, 0.07):
                box = (column * width, row * height, (column + 0.03) * width, (row + 0.045) * height)
                draw.rectangle(box, fill=window)
    draw.rectangle((0, scene.horizon * height, width, scene.kerb * height), fill=scene.pavement)
    draw.rectangle((0, scene.kerb * height, width, height), fill=scene.road)
    middle = (scene.kerb + 1) / 2
    for left in np.arange(0, 1, 0.16):
        dash = (left * width, (middle - 0.008) * height, (left + 0.08) * width, (middle + 0.008) * height)
        draw.rectangle(dash, fill=(205, 205, 200))
    return canvas


class _Pen:
    """Draws in a thing's own frame: x 0..1 from tail to nose, y 0..1 from feet to top."""

    def __init__(self, draw: ImageDraw.ImageDraw, event: Event, t_s: float, size: tuple[int, int]) -> None:
        length, tall = SIZES[event.thing.kind]
        self.draw, self.size, self.flip = draw, size, event.direction < 0
        self.length, self.tall = length * event.scale, tall * event.scale
        self.left, self.ground = event.centre(t_s) - self.length / 2, event.ground

    def at(self, x: float, y: float) -> tuple[float, float]:
        x = 1 - x if self.flip else x
        return (self.left + x * self.length) * self.size[0], (self.ground - y * self.tall) * self.size[1]

    def poly(self, points: list[tuple[float, float]], colour: RGB) -> None:
        self.draw.polygon([self.at(x, y) for x, y in points], fill=colour)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: RGB) -> None:
        self.poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def disc(self, x: float, y: float, radius_x: float, colour: RGB) -> None:
        """A circle of radius `radius_x` lengths, round on a 16:9 picture."""
        cx, cy = self.at(x, y)
        rx = radius_x * self.length * self.size[0]
        ry = radius_x * self.length * 16 / 9 * self.size[1]
        self.draw.ellipse((cx - rx, cy - ry, cx + rx, cy + ry), fill=colour)

    def line(self, points: list[tuple[float, float]], share: float, colour: RGB) -> None:
        width = max(1, round(share * self.length * self.size[0]))
        self.draw.line([self.at(x, y) for x, y in points], fill=colour, width=width)


def _thing(draw: ImageDraw.ImageDraw, event: Event, t_s: float, size: tuple[int, int]) -> None:
    pen = _Pen(draw, event, t_s, size)
    body = COLOURS[event.thing.colour]
    shade: RGB = (int(body[0] * 0.6), int(body[1] * 0.6), int(body[2] * 0.6))
    phase = float(np.sin((t_s - event.first_s) * 9.0))
    _DRAW[event.thing.kind](pen, body, shade, phase)


GLASS: RGB = (150, 190, 215)
TYRE: RGB = (18, 18, 20)
SKIN: RGB = (222, 178, 145)


def _car(pen: _Pen, body: RGB, shade: RGB, _phase: float) -> None:
    pen.poly(
        [(0.0, 0.15), (1.0, 0.15), (1.0, 0.5), (0.82, 0.58), (0.66, 1.0), (0.28, 1.0), (0.12, 0.58), (0, 0.55)], body
    )
    pen.poly([(0.30, 0.93), (0.46, 0.93), (0.46, 0.6), (0.2, 0.6)], GLASS)
    pen.poly([(0.50, 0.93), (0.64, 0.93), (0.75, 0.6), (0.50, 0.6)], GLASS)
    pen.box(0.0, 0.15, 1.0, 0.25, shade)
    for x in (0.22, 0.78):
        pen.disc(x, 0.15, 0.10, TYRE)


def _truck(pen: _Pen, body: RGB, shade: RGB, _phase: float) -> None:
    pen.box(0.0, 0.2, 0.68, 1.0, body)
    pen.box(0.70, 0.12, 1.0, 0.72, shade)
    pen.box(0.85, 0.42, 0.98, 0.66, GLASS)
    for x in (0.15, 0.5, 0.84):
        pen.disc(x, 0.1, 0.075, TYRE)


def _bus(pen: _Pen, body: RGB, shade: RGB, _phase: float) -> None:
    pen.box(0.0, 0.12, 1.0, 1.0, body)
    for x in np.arange(0.05, 0.95, 0.155):
        pen.box(float(x), 0.55, float(x) + 0.11, 0.86, GLASS)
    pen.box(0.0, 0.12, 1.0, 0.2, shade)
    for x in (0.2, 0.8):
        pen.disc(x, 0.1, 0.06, TYRE)


def _bike(pen: _Pen, body: RGB, shade: RGB, phase: float) -> None:
    for x in (0.2, 0.8):
        pen.disc(x, 0.24, 0.2, TYRE)
        pen.disc(x, 0.24, 0.14, (120, 120, 122))
    pen.line([(0.2, 0.24), (0.45, 0.5), (0.75, 0.5), (0.8, 0.24)], 0.06, body)
    pen.line([(0.45, 0.5), (0.5 + 0.05 * phase, 0.2)], 0.08, shade)
    pen.poly([(0.34, 0.5), (0.5, 0.5), (0.68, 0.85), (0.5, 0.88)], body)
    pen.disc(0.64, 0.93, 0.09, SKIN)


def _person(pen: _Pen, body: RGB, shade: RGB, phase: float) -> None:
    pen.line([(0.5, 0.48), (0.5 + 0.3 * phase, 0.0)], 0.24, shade)
    pen.line([(0.5, 0.48), (0.5 - 0.3 * phase, 0.0)], 0.24, shade)
    pen.poly([(0.15, 0.82), (0.85, 0.82), (0.75, 0.42), (0.25, 0.42)], body)
    pen.disc(0.5, 0.91, 0.24, SKIN)


def _dog(pen: _Pen, body: RGB, shade: RGB, phase: float) -> None:
    for x in (0.18, 0.3, 0.62, 0.74):
        pen.line([(x, 0.4), (x + 0.06 * phase, 0.0)], 0.08, shade)
    pen.poly([(0.1, 0.75), (0.72, 0.78), (0.78, 0.38), (0.12, 0.35)], body)
    pen.line([(0.12, 0.7), (0.0, 1.0)], 0.06, body)
    pen.disc(0.83, 0.85, 0.13, body)
    pen.box(0.86, 0.72, 1.0, 0.86, shade)


_DRAW = {"car": _car, "truck": _truck, "bus": _bus, "bike": _bike, "person": _person, "dog": _dog}
