"""What does not move: backdrop, fixtures, light, weather and lens.

Colours are laid on as the light leaves them: a backdrop is drawn once for each light and each state of the fixtures,
and kept. What passes is drawn over it; noise, rain, shake and dirt come last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stream.train.things import RGB

SIGN = (0.02, 0.04, 0.34, 0.185)  # left, top, right, bottom, shares of the picture
LAMP = (0.565, 0.03, 0.655, 0.235)
GATE = (0.74, 0.36, 0.985, 0.60)
GROUND, THING = {"day": 1.0, "dusk": 0.60, "night": 0.34}, {"day": 1.0, "dusk": 0.74, "night": 0.58}
TINT = {"day": (1.0, 1.0, 1.0), "dusk": (1.06, 0.93, 0.86), "night": (0.90, 0.96, 1.12)}
GLASS_LIT: RGB = (250, 215, 120)


@dataclass(frozen=True, slots=True)
class House:
    """Left, right and top as shares of the picture."""

    left: float
    right: float
    top: float
    colour: RGB


@dataclass(frozen=True, slots=True)
class Scene:
    """One camera's view."""

    sky: RGB
    houses: tuple[House, ...]
    pavement: RGB
    road: RGB
    horizon: float
    kerb: float
    exposure: float  # 1 = right
    tint: tuple[float, float, float]
    noise: float  # standard deviation by day, grey levels; more in the dark
    shake: float  # standard deviation, share of the picture's width
    dirt: tuple[tuple[float, float, float, float], ...]  # x, y, radius, how dark


def make(rng: np.random.Generator, weather: bool) -> Scene:
    """A scene drawn from `rng`; without `weather` the camera is clean and steady."""

    def grey(low: int, high: int, spread: int = 10) -> RGB:
        base = rng.integers(low, high)
        red, green, blue = (int(np.clip(base + rng.integers(-spread, spread + 1), 0, 255)) for _ in range(3))
        return red, green, blue

    horizon, kerb = float(rng.uniform(0.34, 0.42)), float(rng.uniform(0.56, 0.60))
    houses, left = [], 0.0
    while left < 1:
        right = left + float(rng.uniform(0.14, 0.36))
        houses.append(House(left, right, horizon - float(rng.uniform(0.05, 0.26)), grey(95, 180, 22)))
        left = right + (float(rng.uniform(0.0, 0.1)) if rng.random() < 0.4 else 0.0)
    sky = (int(rng.integers(135, 190)), int(rng.integers(170, 212)), int(rng.integers(200, 240)))
    spots = int(rng.integers(1, 4)) if weather and rng.random() < 0.15 else 0
    return Scene(
        sky=sky,
        houses=tuple(houses),
        pavement=grey(140, 180),
        road=grey(88, 122, 6),
        horizon=horizon,
        kerb=kerb,
        exposure=float(rng.uniform(0.82, 1.06)),
        tint=(float(rng.uniform(0.95, 1.05)), 1.0, float(rng.uniform(0.95, 1.05))),
        noise=float(rng.uniform(0.0, 4.0)) if weather else 0.0,
        shake=float(rng.uniform(0.002, 0.012)) if weather and rng.random() < 0.15 else 0.0,
        dirt=tuple(
            (float(rng.random()), float(rng.random()), float(rng.uniform(0.04, 0.12)), float(rng.uniform(0.2, 0.5)))
            for _ in range(spots)
        ),
    )


def lighting(scene: Scene, light: str, strength: dict[str, float]) -> Callable[[RGB], RGB]:
    """How `light` leaves a colour; `strength` is GROUND or THING."""
    if light == "infrared":
        low, gain = (28.0, 0.30) if strength is GROUND else (92.0, 0.60)

        def grey(colour: RGB) -> RGB:
            value = round(low + gain * (0.4 * colour[0] + 0.4 * colour[1] + 0.2 * colour[2]))
            return value, value, value

        return grey
    red, green, blue = (
        strength[light] * scene.exposure * own * lens for own, lens in zip(TINT[light], scene.tint, strict=True)
    )

    def lit(colour: RGB) -> RGB:
        return (
            min(255, round(colour[0] * red)),
            min(255, round(colour[1] * green)),
            min(255, round(colour[2] * blue)),
        )

    return lit


def backdrop(scene: Scene, light: str, states: dict[str, str], size: tuple[int, int]) -> Image.Image:
    """The empty street under `light` with its fixtures in `states`, `size` px (width, height)."""
    width, height = size
    lit, dark = lighting(scene, light, GROUND), light in ("night", "infrared")
    canvas = Image.new("RGB", size, lit(scene.sky) if light != "night" else (10, 12, 26))
    draw = ImageDraw.Draw(canvas)
    for house in scene.houses:
        draw.rectangle(
            (house.left * width, house.top * height, house.right * width, scene.horizon * height),
            fill=lit(house.colour),
        )
        pane: RGB = (house.colour[0] // 2, house.colour[1] // 2, house.colour[2] // 2)
        for row, y in enumerate(np.arange(house.top + 0.03, scene.horizon - 0.04, 0.09)):
            for column, x in enumerate(np.arange(house.left + 0.025, house.right - 0.03, 0.07)):
                shines = light == "night" and (row * 7 + column * 3 + len(scene.houses)) % 5 == 0
                colour = GLASS_LIT if shines else lit(pane)
                draw.rectangle((x * width, y * height, (x + 0.03) * width, (y + 0.045) * height), fill=colour)
    draw.rectangle((0, scene.horizon * height, width, scene.kerb * height), fill=lit(scene.pavement))
    draw.rectangle((0, scene.kerb * height, width, height), fill=lit(scene.road))
    middle = (scene.kerb + 1) / 2
    for x in np.arange(0, 1, 0.16):
        dash = (x * width, (middle - 0.008) * height, (x + 0.08) * width, (middle + 0.008) * height)
        draw.rectangle(dash, fill=lit((200, 200, 195)))
    if "gate" in states:
        _gate(draw, states["gate"], lighting(scene, light, THING), size)
    if "light" in states:
        _lamp(draw, states["light"], light, size)
    if "sign" in states:
        _sign(draw, states["sign"], dark, size)
    return canvas


def _gate(draw: ImageDraw.ImageDraw, state: str, lit: Callable[[RGB], RGB], size: tuple[int, int]) -> None:
    """A gate in a frame: closed it is a wall of white bars, open one sees a dark yard and the leaf edge-on."""
    left, top, right, bottom = (share * size[place % 2] for place, share in enumerate(GATE))
    across, post = right - left, lit((90, 60, 35))
    draw.rectangle((left, top, right, bottom), fill=lit((35, 40, 36) if state == "open" else (120, 95, 60)))
    for x in (left, right - 0.09 * across):
        draw.rectangle((x, top - 0.1 * (bottom - top), x + 0.09 * across, bottom), fill=post)
    if state == "closed":
        for number in range(5):
            x = left + (0.13 + 0.155 * number) * across
            draw.rectangle((x, top, x + 0.085 * across, bottom), fill=lit((235, 230, 220)))
    else:
        draw.rectangle((left + 0.09 * across, top, left + 0.2 * across, bottom), fill=lit((235, 230, 220)))


def _lamp(draw: ImageDraw.ImageDraw, state: str, light: str, size: tuple[int, int]) -> None:
    """A traffic light: red above, green below; the lit one shines whatever the light."""
    left, top, right, bottom = (share * size[place % 2] for place, share in enumerate(LAMP))
    middle = (left + right) / 2
    draw.rectangle((middle - 1, bottom, middle + 1, bottom + 0.24 * size[1]), fill=(55, 55, 58))
    draw.rectangle((left, top, right, bottom), fill=(18, 18, 20))
    grey = light == "infrared"
    shown = {"red": (255, 255, 255) if grey else (255, 25, 20), "green": (255, 255, 255) if grey else (25, 240, 70)}
    half = (bottom - top) / 2
    for number, colour in enumerate(("red", "green")):
        y = top + number * half
        box = (left + 1, y + 0.06 * half, right - 1, y + 0.94 * half)
        draw.ellipse(box, fill=shown[colour] if colour == state else (48, 46, 46))


def _sign(draw: ImageDraw.ImageDraw, word: str, dark: bool, size: tuple[int, int]) -> None:
    """A board with one word; lit from within after dark."""
    left, top, right, bottom = (share * size[place % 2] for place, share in enumerate(SIGN))
    draw.rectangle((left, top, right, bottom), fill=(225, 225, 225) if dark else (250, 248, 240), outline=(40, 40, 40))
    font = ImageFont.load_default(size=max(6, round(1.02 * (bottom - top))))
    x0, y0, x1, y1 = font.getbbox(word)
    room = right - left - 2
    text = Image.new("L", (max(1, int(x1 - x0)), max(1, int(y1 - y0))), 0)
    ImageDraw.Draw(text).text((-x0, -y0), word, fill=255, font=font)
    text = text.resize((max(1, int(room)), max(1, int(0.78 * (bottom - top)))))
    draw.bitmap((round(left + 1), round(top + 0.11 * (bottom - top))), text, fill=(15, 15, 60))


@cache
def _grain(width: int, height: int) -> np.ndarray:
    """Fields of noise for all pictures of a size: drawing fresh noise would be a third of a picture's cost."""
    drawn = np.random.default_rng((width, height)).normal(0.0, 1.0, (4, height + 32, width + 32))
    return drawn.astype(np.float32)


class Lens:
    """What the camera adds: rain, shake, dirt, noise. One for a picture size."""

    def __init__(self, scene: Scene, size: tuple[int, int]) -> None:
        width, height = size
        self.scene, self.size = scene, size
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        far = (2 * x / width - 1) ** 2 + (2 * y / height - 1) ** 2
        self._vignette = np.repeat((1.0 - 0.28 * far)[..., None], 3, axis=2)  # of the infrared lamp
        self._veil: np.ndarray | None = None
        if scene.dirt:
            veil = np.ones((height, width), np.float32)
            for at_x, at_y, radius, depth in scene.dirt:
                far = ((x / width - at_x) ** 2 + (y / height - at_y) ** 2 * (height / width) ** 2) / radius**2
                veil *= 1.0 - depth * np.exp(-far)
            self._veil = veil[..., None]

    def rain(self, draw: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int], light: str) -> None:
        """Streaks over a canvas of `size` px."""
        width, height = size
        colour = (150, 150, 160) if light in ("day", "dusk") else (95, 95, 105)
        for x, y, length in rng.random((22, 3)).tolist():
            down = (0.05 + 0.08 * length) * height
            draw.line((x * width, y * height, x * width - 0.15 * down, y * height + down), fill=colour, width=1)

    def finish(self, picture: np.ndarray, rng: np.random.Generator, light: str) -> np.ndarray:
        """`picture` float32 [H, W, 3] -> uint8 [H, W, 3]."""
        if self.scene.shake:
            across, down = np.round(rng.normal(0.0, self.scene.shake * self.size[0], 2)).astype(int).clip(-4, 4)
            padded = np.pad(picture, ((4, 4), (4, 4), (0, 0)), mode="edge")
            height, width = picture.shape[:2]
            picture = padded[4 + down : 4 + down + height, 4 + across : 4 + across + width]
        if light == "infrared":
            picture = picture.mean(2, keepdims=True) * self._vignette
        if self._veil is not None:
            picture = picture * self._veil
        spread = self.scene.noise * {"day": 1.0, "dusk": 1.5}.get(light, 2.0)
        if spread:
            number, down, across = int(rng.integers(4)), int(rng.integers(32)), int(rng.integers(32))
            height, width = picture.shape[:2]
            picture = (
                picture + spread * _grain(width, height)[number, down : down + height, across : across + width, None]
            )
        return picture.clip(0, 255).astype(np.uint8)
