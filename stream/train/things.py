"""What comes and goes on the street: kinds, colours, names, and how each is drawn.

A thing is drawn in a frame of its own, x 0..1 from tail to nose and y 0..1 from feet to top, so that a mirrored
drawing is a thing that goes the other way. Sizes are shares of the picture, meant for a 16:9 camera.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import ImageDraw

RGB = tuple[int, int, int]
Point = tuple[float, float]

COLOURS: dict[str, RGB] = {
    "red": (205, 28, 26),
    "blue": (30, 70, 215),
    "green": (22, 150, 50),
    "yellow": (240, 205, 25),
    "white": (244, 244, 244),
    "black": (22, 22, 25),
    "brown": (126, 74, 34),
}
KINDS = ("person", "car", "truck", "van", "bus", "bike", "dog", "cat", "bird", "parcel")
_USUAL = ("red", "blue", "green", "yellow", "white", "black")
_COATS = ("black", "white", "brown")
PAINTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(KINDS, _USUAL),
    "dog": _COATS,
    "cat": _COATS,
    "bird": ("black", "white", "blue"),
    "parcel": ("brown",),
}
WORDS = ("OPEN", "SALE", "STOP", "TAXI", "FULL", "EXIT", "CAFE", "BANK")
SIZES: dict[str, tuple[float, float]] = {  # length and height, shares of the picture's width and height
    "person": (0.13, 0.36),
    "car": (0.27, 0.20),
    "truck": (0.40, 0.34),
    "van": (0.31, 0.30),
    "bus": (0.50, 0.33),
    "bike": (0.21, 0.30),
    "dog": (0.20, 0.20),
    "cat": (0.15, 0.21),
    "bird": (0.16, 0.15),
    "parcel": (0.09, 0.12),
}


@dataclass(frozen=True, slots=True)
class Thing:
    """What passes. `colour` is "" where none can be told."""

    kind: str
    colour: str

    @property
    def name(self) -> str:
        """With its article: `a red car`, `a person in red`, `a parcel`."""
        return f"a {self._bare}"

    @property
    def the(self) -> str:
        """As something known: `the red car`, `the person in red`, `the parcel`."""
        return f"the {self._bare}"

    @property
    def _bare(self) -> str:
        if self.kind == "parcel" or not self.colour:
            return self.kind
        return f"person in {self.colour}" if self.kind == "person" else f"{self.colour} {self.kind}"


@dataclass(frozen=True, slots=True)
class Pose:
    """Where and how a thing is drawn; `left` and `ground` are shares of the picture."""

    left: float
    ground: float
    length: float
    tall: float
    flip: bool  # it goes to the left
    phase: float  # of its gait, -1..1; 0 stands
    still: bool  # it has stopped: brake lights
    dark: bool  # lamps are lit
    laden: bool  # carries something in front of it


@dataclass(frozen=True, slots=True)
class Coat:
    """The colours a thing is drawn in, as the light leaves them."""

    body: RGB
    shade: RGB
    lit: Callable[[RGB], RGB]  # any other colour under the same light


class Pen:
    """Draws in a thing's own frame on a canvas of `size` px (width, height)."""

    __slots__ = ("_draw", "_origin_x", "_origin_y", "_round", "_step_x", "_step_y", "_thick", "pose")

    def __init__(self, draw: ImageDraw.ImageDraw, pose: Pose, size: tuple[int, int]) -> None:
        width, height = size
        self._draw, self.pose = draw, pose
        self._step_x = pose.length * width * (-1 if pose.flip else 1)
        self._origin_x = (pose.left + (pose.length if pose.flip else 0.0)) * width
        self._step_y, self._origin_y = -pose.tall * height, pose.ground * height
        self._thick = pose.length * width
        self._round = 16 / 9 * height / width  # a circle on a 16:9 picture, whatever shape this canvas has

    def poly(self, points: Sequence[Point], colour: RGB) -> None:
        """A filled polygon."""
        left, top, across, up = self._origin_x, self._origin_y, self._step_x, self._step_y
        self._draw.polygon([(left + x * across, top + y * up) for x, y in points], fill=colour)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: RGB) -> None:
        """A filled rectangle."""
        a, b = self._origin_x + x0 * self._step_x, self._origin_x + x1 * self._step_x
        c, d = self._origin_y + y0 * self._step_y, self._origin_y + y1 * self._step_y
        self._draw.rectangle((min(a, b), min(c, d), max(a, b), max(c, d)), fill=colour)

    def disc(self, x: float, y: float, radius: float, colour: RGB) -> None:
        """A filled circle of `radius` lengths."""
        across = self._origin_x + x * self._step_x
        down = self._origin_y + y * self._step_y
        rx = radius * self._thick
        ry = rx * self._round
        self._draw.ellipse((across - rx, down - ry, across + rx, down + ry), fill=colour)

    def line(self, points: Sequence[Point], share: float, colour: RGB) -> None:
        """A line `share` lengths wide."""
        left, top, across, up = self._origin_x, self._origin_y, self._step_x, self._step_y
        width = max(1, round(share * self._thick))
        self._draw.line([(left + x * across, top + y * up) for x, y in points], fill=colour, width=width)

    def lamps(self, nose: Point, tail: Point, radius: float) -> None:
        """White at the nose, red at the tail; they shine by themselves. Brakes glow while it stands."""
        if self.pose.dark:
            self.disc(*nose, radius * 2.0, (150, 140, 95))
        self.disc(*nose, radius, (255, 250, 215))
        self.disc(
            *tail, radius * (1.4 if self.pose.still else 1.0), (255, 40, 30) if self.pose.still else (235, 20, 20)
        )


GLASS: RGB = (150, 195, 225)
TYRE: RGB = (16, 16, 18)
RIM: RGB = (165, 165, 170)
SKIN: RGB = (226, 180, 146)
HAIR: RGB = (58, 38, 24)
CLOTH: RGB = (72, 72, 92)
TAPE: RGB = (226, 200, 150)
BEAK: RGB = (250, 165, 20)


def paint(pen: Pen, kind: str, coat: Coat) -> None:
    """Draw one thing of `kind`."""
    _DRAW[kind](pen, coat)


def _wheels(pen: Pen, coat: Coat, places: Sequence[float], y: float, radius: float) -> None:
    tyre, rim = coat.lit(TYRE), coat.lit(RIM)
    for x in places:
        pen.disc(x, y, radius, tyre)
        pen.disc(x, y, radius * 0.45, rim)


_CAR = ((0.0, 0.18), (1.0, 0.18), (1.0, 0.48), (0.80, 0.60), (0.62, 1.0), (0.24, 1.0), (0.08, 0.64), (0.0, 0.58))


def _car(pen: Pen, coat: Coat) -> None:
    glass = coat.lit(GLASS)
    pen.poly(_CAR, coat.body)
    pen.poly(((0.28, 0.92), (0.42, 0.92), (0.42, 0.62), (0.18, 0.62)), glass)
    pen.poly(((0.47, 0.92), (0.60, 0.92), (0.73, 0.62), (0.47, 0.62)), glass)
    pen.box(0.0, 0.18, 1.0, 0.28, coat.shade)
    _wheels(pen, coat, (0.20, 0.78), 0.18, 0.095)
    pen.lamps((0.97, 0.44), (0.03, 0.46), 0.035)


def _truck(pen: Pen, coat: Coat) -> None:
    pen.box(0.0, 0.16, 0.98, 0.24, coat.lit((60, 60, 64)))
    pen.box(0.0, 0.25, 0.67, 1.0, coat.body)
    for x in (0.16, 0.33, 0.50):
        pen.box(x, 0.25, x + 0.015, 1.0, coat.shade)
    pen.poly(((0.72, 0.14), (1.0, 0.14), (1.0, 0.46), (0.93, 0.78), (0.72, 0.78)), coat.body)
    pen.poly(((0.83, 0.47), (0.97, 0.47), (0.915, 0.72), (0.83, 0.72)), coat.lit(GLASS))
    _wheels(pen, coat, (0.12, 0.28, 0.84), 0.12, 0.065)
    pen.lamps((0.98, 0.27), (0.015, 0.21), 0.022)


def _van(pen: Pen, coat: Coat) -> None:
    pen.poly(((0, 0.14), (1.0, 0.14), (1.0, 0.42), (0.86, 0.55), (0.72, 0.98), (0.68, 1.0), (0.0, 1.0)), coat.body)
    pen.poly(((0.62, 0.90), (0.70, 0.90), (0.81, 0.57), (0.62, 0.57)), coat.lit(GLASS))
    pen.box(0.05, 0.46, 0.56, 0.52, coat.shade)
    pen.box(0.58, 0.14, 0.595, 0.97, coat.shade)
    pen.box(0.0, 0.14, 1.0, 0.21, coat.shade)
    _wheels(pen, coat, (0.18, 0.79), 0.13, 0.085)
    pen.lamps((0.975, 0.36), (0.02, 0.36), 0.028)


def _bus(pen: Pen, coat: Coat) -> None:
    glass = coat.lit(GLASS)
    pen.box(0.0, 0.12, 1.0, 1.0, coat.body)
    for x in (0.04, 0.19, 0.34, 0.49, 0.64):
        pen.box(x, 0.54, x + 0.12, 0.86, glass)
    pen.box(0.79, 0.16, 0.88, 0.86, glass)  # the door, behind the driver
    pen.box(0.93, 0.45, 1.0, 0.90, glass)  # the windscreen
    pen.box(0.0, 0.12, 0.78, 0.19, coat.shade)
    _wheels(pen, coat, (0.18, 0.70), 0.10, 0.055)
    pen.lamps((0.985, 0.25), (0.01, 0.27), 0.018)


def _bike(pen: Pen, coat: Coat) -> None:
    phase, tyre = pen.pose.phase, coat.lit(TYRE)
    rim = coat.lit(RIM)
    for x in (0.19, 0.81):
        pen.disc(x, 0.22, 0.19, tyre)
        pen.disc(x, 0.22, 0.13, rim)
    pen.line(((0.19, 0.22), (0.40, 0.46), (0.74, 0.48), (0.47, 0.22), (0.19, 0.22)), 0.055, coat.body)
    pen.line(((0.81, 0.22), (0.74, 0.56), (0.84, 0.58)), 0.055, tyre)
    cloth = coat.lit(CLOTH)
    pen.line(((0.38, 0.54), (0.52 + 0.06 * phase, 0.36), (0.47 - 0.08 * phase, 0.16)), 0.09, cloth)
    pen.poly(((0.28, 0.52), (0.46, 0.52), (0.68, 0.80), (0.52, 0.88), (0.40, 0.80)), coat.body)
    pen.line(((0.58, 0.76), (0.78, 0.58)), 0.075, coat.body)
    pen.disc(0.66, 0.90, 0.085, coat.lit(SKIN))
    pen.poly(((0.54, 0.90), (0.78, 0.93), (0.70, 1.0), (0.58, 1.0)), coat.shade)  # a helmet, its brim ahead
    pen.lamps((0.88, 0.52), (0.20, 0.52), 0.045)


def _person(pen: Pen, coat: Coat) -> None:
    phase, cloth, skin = pen.pose.phase, coat.lit(CLOTH), coat.lit(SKIN)
    for side in (1, -1):
        foot = 0.5 + 0.24 * side * phase
        pen.line(((0.5, 0.42), (foot, 0.03)), 0.19, cloth)
        pen.box(foot - 0.07, 0.0, foot + 0.19, 0.05, coat.lit(TYRE))
    pen.box(0.04, 0.52, 0.30, 0.78, coat.lit((95, 88, 80)))  # a bag on the back
    pen.poly(((0.26, 0.82), (0.72, 0.82), (0.76, 0.38), (0.24, 0.38)), coat.body)
    if pen.pose.laden:
        pen.line(((0.5, 0.74), (0.98, 0.52)), 0.15, coat.shade)
    else:
        hand = 0.68 + 0.14 * phase
        pen.line(((0.5, 0.76), (0.60, 0.58), (hand + 0.14, 0.50)), 0.14, coat.shade)
        pen.disc(hand + 0.18, 0.49, 0.075, skin)
    pen.disc(0.52, 0.90, 0.19, skin)
    pen.poly(((0.30, 0.99), (0.52, 1.0), (0.52, 0.86), (0.40, 0.80), (0.30, 0.84)), coat.lit(HAIR))
    pen.poly(((0.30, 0.94), (0.96, 0.935), (0.96, 0.96), (0.70, 0.97), (0.62, 1.01), (0.36, 1.01)), coat.body)  # a cap


def _dog(pen: Pen, coat: Coat) -> None:
    phase = pen.pose.phase
    for x, side in ((0.18, 1), (0.28, -1), (0.58, -1), (0.68, 1)):
        pen.line(((x, 0.42), (x + 0.06 * phase * side, 0.0)), 0.085, coat.shade)
    pen.poly(((0.08, 0.72), (0.66, 0.76), (0.76, 0.62), (0.72, 0.34), (0.14, 0.36)), coat.body)
    pen.line(((0.11, 0.66), (0.0, 0.90)), 0.07, coat.body)
    pen.poly(
        ((0.60, 0.68), (0.70, 0.98), (0.86, 0.96), (0.88, 0.84), (1.0, 0.78), (0.99, 0.66), (0.78, 0.60)), coat.body
    )
    pen.poly(((0.68, 0.96), (0.77, 0.94), (0.73, 0.66), (0.66, 0.70)), coat.shade)  # a hanging ear
    pen.disc(0.985, 0.75, 0.03, coat.lit(TYRE))


def _cat(pen: Pen, coat: Coat) -> None:
    phase = pen.pose.phase
    for x, side in ((0.24, 1), (0.34, -1), (0.60, -1), (0.68, 1)):
        pen.line(((x, 0.30), (x + 0.06 * phase * side, 0.0)), 0.08, coat.shade)
    pen.poly(((0.16, 0.46), (0.40, 0.52), (0.74, 0.48), (0.74, 0.22), (0.20, 0.22)), coat.body)
    pen.line(((0.20, 0.40), (0.06, 0.62), (0.12, 0.84), (0.03, 0.98)), 0.085, coat.body)  # a tail held high
    pen.disc(0.82, 0.54, 0.145, coat.body)
    pen.poly(((0.69, 0.60), (0.70, 0.86), (0.80, 0.70)), coat.body)
    pen.poly(((0.82, 0.70), (0.93, 0.86), (0.95, 0.58)), coat.body)
    pen.disc(0.90, 0.55, 0.035, coat.lit((120, 235, 90)))  # an eye
    pen.disc(0.965, 0.48, 0.03, coat.lit((240, 150, 150)))


def _bird(pen: Pen, coat: Coat) -> None:
    beat = 0.5 + 0.5 * pen.pose.phase  # wings up at 1, down at 0
    pen.poly(((0.30, 0.50), (0.0, 0.62), (0.06, 0.44), (0.0, 0.34), (0.30, 0.36)), coat.shade)
    pen.poly(((0.20, 0.44), (0.42, 0.62), (0.70, 0.60), (0.80, 0.46), (0.62, 0.28), (0.36, 0.28)), coat.body)
    tip = 0.02 + 0.96 * beat
    pen.poly(((0.36, 0.50), (0.62, 0.52), (0.34, tip), (0.20, tip)), coat.shade)
    pen.disc(0.76, 0.56, 0.10, coat.body)
    pen.poly(((0.83, 0.64), (1.0, 0.54), (0.83, 0.48)), coat.lit(BEAK))


def _parcel(pen: Pen, coat: Coat) -> None:
    pen.box(0.0, 0.0, 1.0, 1.0, coat.shade)
    pen.box(0.08, 0.05, 0.92, 0.92, coat.body)
    tape = coat.lit(TAPE)
    pen.box(0.42, 0.0, 0.58, 1.0, tape)
    pen.box(0.08, 0.60, 0.92, 0.72, tape)


_DRAW: dict[str, Callable[[Pen, Coat], None]] = {
    "person": _person,
    "car": _car,
    "truck": _truck,
    "van": _van,
    "bus": _bus,
    "bike": _bike,
    "dog": _dog,
    "cat": _cat,
    "bird": _bird,
    "parcel": _parcel,
}
