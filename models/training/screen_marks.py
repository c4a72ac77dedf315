"""Painted screens: callipers, text, scales and dots as scanners burn them in, with the truth of each pixel.

Promises: everything comes from the generator given; the truth is what was drawn, dilated by a pixel. Marks
are drawn soft, with or without a dark rim, and the picture is compressed again, as archives do, so that a
network cannot tell a painted mark from a real one by its edges. Other code than `marks.py`, whose painter
measures what was learned here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

Grey = npt.NDArray[np.uint8]
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_Point = tuple[float, float]
_Segment = tuple[float, float, float, float]

_FINE = 4  # drawn so many times finer, then averaged
_WORDS = (
    *("MAMA DIR", "MAMA ESQ", "MAMA ESQUERDA", "QSE", "QII", "UQSUP", "RETROAREOLAR", "LT BREAST", "RT"),
    *("2:00", "10H", "RAD", "AXILLA", "4CMFN", "LI BRUST", "11 UHR", "D 12.4MM", "8.1 cm", "Dist 0.94 cm"),
    *("GE", "MI 0.9", "FR 31", "Gn 56", "42", "72", "+ 9.6 mm", "|", "1", "2", "3", "4", "A", "B", "A 1.2cm"),
)
_TTF = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSans-BoldOblique")
# Strokes of callipers in arms: crosses, six- and eight-pointed stars, crosses with feet, chevrons.
_UPRIGHT: tuple[_Segment, ...] = ((-1, 0, 1, 0), (0, -1, 0, 1))
_DIAGONAL: tuple[_Segment, ...] = ((-1, -1, 1, 1), (-1, 1, 1, -1))
_FEET: tuple[_Segment, ...] = tuple(
    (x - dy, y - dx, x + dy, y + dx)
    for x, y, dx, dy in ((1, 0, 0.3, 0), (-1, 0, 0.3, 0), (0, 1, 0, 0.3), (0, -1, 0, 0.3))
)
_CHEVRONS: tuple[_Segment, ...] = tuple(
    (a * 0.9, b * 0.3, a * 0.3, b * 0.9) for a in (-1, 1) for b in (-1, 1)
)
_SHAPES = (
    *(_UPRIGHT, _UPRIGHT, _UPRIGHT, _DIAGONAL, _DIAGONAL, _UPRIGHT + _DIAGONAL),
    *((*_DIAGONAL, (0, -1, 0, 1)), (*_DIAGONAL, (-1, 0, 1, 0)), _UPRIGHT + _FEET, _DIAGONAL + _CHEVRONS),
)


@dataclass(frozen=True)
class Screen:
    """A picture with marks, uint8 (rows, columns), and where they are, bool of the same shape."""

    grey: Grey
    marks: npt.NDArray[np.bool_]


def paint_screen(grey: Grey, random: np.random.Generator) -> Screen:
    """Paint what a screen may carry on a copy of a grey picture, uint8 (rows, columns)."""
    rows, columns = grey.shape
    picture = grey.astype(np.float32)
    truth = np.zeros(grey.shape, bool)
    for paint in (_callipers, _callipers, _text, _text, _scale, _dots, _arrow):
        if random.random() < _SHARE[paint.__name__]:
            layer = Image.new("L", (columns * _FINE, rows * _FINE), 0)
            paint(_Pen(ImageDraw.Draw(layer), columns, rows), random)
            opacity = np.asarray(layer.reduce(_FINE), np.float32) / np.float32(255)
            picture = _lay(picture, opacity, random)
            truth |= opacity > 0.3
    return Screen(_archived(picture, random), ndimage.binary_dilation(truth, np.ones((3, 3))))


_SHARE = {"_callipers": 0.8, "_text": 0.6, "_scale": 0.3, "_dots": 0.5, "_arrow": 0.1}


@dataclass(frozen=True)
class _Pen:
    """Draws on the fine layer in pixels of the picture."""

    draw: ImageDraw.ImageDraw
    columns: int
    rows: int

    def line(self, segment: _Segment, width: float) -> None:
        at = [(value + 0.5) * _FINE for value in segment]
        self.draw.line(at, fill=255, width=max(1, round(width * _FINE)))

    def dot(self, x: float, y: float, radius: float) -> None:
        box = [(value + 0.5) * _FINE for value in (x - radius, y - radius, x + radius, y + radius)]
        self.draw.ellipse(box, fill=255)

    def text(self, place: _Point, words: str, height: float, random: np.random.Generator) -> None:
        font = _font(int(random.integers(len(_TTF) + 2)), round(height * _FINE))
        if isinstance(font, ImageFont.FreeTypeFont):
            self.draw.text((place[0] * _FINE, place[1] * _FINE), words, fill=255, font=font)
            return
        left, top, right, bottom = font.getbbox(words)  # a bitmap font: enlarged without smoothing
        small = Image.new("L", (int(right - left) + 1, int(bottom - top) + 1), 0)
        ImageDraw.Draw(small).text((0, 0), words, fill=255, font=font)
        factor = max(1, round(height / 11)) * _FINE
        large = small.resize((small.width * factor, small.height * factor), Image.Resampling.NEAREST)
        self.draw.bitmap((int(place[0] * _FINE), int(place[1] * _FINE)), large, fill=255)

    def anywhere(self, random: np.random.Generator) -> _Point:
        return random.uniform(0, self.columns), random.uniform(0, self.rows)


@cache
def _font(kind: int, size: int) -> _Font:
    if kind < len(_TTF):
        return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / f"{_TTF[kind]}.ttf", size)
    return ImageFont.load_default(size=size) if kind == len(_TTF) else ImageFont.load_default_imagefont()


def _callipers(pen: _Pen, random: np.random.Generator) -> None:
    shape = _SHAPES[random.integers(len(_SHAPES))]
    arm, width = random.uniform(2.5, 8), random.uniform(0.8, 2.2)
    hollow = random.random() < 0.15
    ends = [pen.anywhere(random) for _ in range(int(random.integers(1, 5)))]
    for x, y in ends:
        for x0, y0, x1, y1 in shape:
            pen.line((x + arm * x0, y + arm * y0, x + arm * x1, y + arm * y1), width)
        if hollow:
            pen.draw.ellipse([(v + 0.5) * _FINE for v in (x - 1.2, y - 1.2, x + 1.2, y + 1.2)], fill=0)
        if random.random() < 0.4:
            aside = random.uniform(-2.5, 1.2, 2) * arm
            pen.text((x + aside[0], y + aside[1]), str(random.choice(list("1234AB"))), 11, random)
    if len(ends) > 1 and random.random() < 0.35:
        (x0, y0), (x1, y1) = ends[:2]
        count = max(2, round(np.hypot(x1 - x0, y1 - y0) / random.uniform(2.5, 9)))
        radius = random.uniform(0.4, 1)
        for share in np.linspace(0, 1, count):
            pen.dot(x0 + share * (x1 - x0), y0 + share * (y1 - y0), radius)


def _text(pen: _Pen, random: np.random.Generator) -> None:
    height = random.uniform(8, 26)
    x, y = random.uniform(-0.1, 0.8) * pen.columns, random.uniform(-0.02, 0.97) * pen.rows
    for line in range(int(random.integers(1, 4))):
        words = " ".join(random.choice(_WORDS, int(random.integers(1, 4))))
        if random.random() < 0.4:
            words = "".join(
                random.choice(list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnoprstu 0123456789.:/-"), 9)
            )
        pen.text((x + random.uniform(-8, 8), y + line * height * 1.3), words, height, random)


def _scale(pen: _Pen, random: np.random.Generator) -> None:
    x = random.choice([random.uniform(1, 16), pen.columns - random.uniform(1, 16)])
    step, kind = random.uniform(12, 45), int(random.integers(4))
    for number, y in enumerate(np.arange(random.uniform(0, step), pen.rows, step)):
        if kind == 0:
            pen.dot(x, y, random.uniform(0.8, 1.8))
        elif kind == 1:
            pen.line((x - 4, y, x + 4, y), 1.5)
        else:
            size = 3.5 if number % 2 else 1.2
            for segment in ((-1, 0, 0, -1), (0, -1, 1, 0), (1, 0, 0, 1), (0, 1, -1, 0)):
                pen.line(tuple(at + size * v for at, v in zip((x, y, x, y), segment, strict=True)), 1.2)  # type: ignore[arg-type]
        if kind and number % 2:
            pen.text((x + random.choice([6.0, -14.0]), y - 6), str(number // 2), 12, random)


def _dots(pen: _Pen, random: np.random.Generator) -> None:
    for _ in range(int(random.integers(1, 5))):
        pen.dot(*pen.anywhere(random), random.uniform(0.7, 1.8))


def _arrow(pen: _Pen, random: np.random.Generator) -> None:
    (x, y), size, turn = pen.anywhere(random), random.uniform(5, 14), random.choice([-1, 1])
    for segment in (
        (-1, 0, 0, -1.0),
        (0, -1.0, 1, 0),
        (-0.4, 0, -0.4, 2),
        (0.4, 0, 0.4, 2),
        (-0.4, 2, 0.4, 2),
    ):
        pen.line(tuple(at + size * turn * v for at, v in zip((x, y, x, y), segment, strict=True)), 1.3)  # type: ignore[arg-type]


def _lay(
    picture: npt.NDArray[np.float32], opacity: npt.NDArray[np.float32], random: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Ink of one shade on a picture, with a dark rim under it in two of five cases."""
    if random.random() < 0.5:
        opacity = ndimage.gaussian_filter(opacity, random.uniform(0.3, 0.7))
    if random.random() < 0.4:
        rim = np.clip(ndimage.maximum_filter(opacity, 3) * random.uniform(0.6, 1), 0, 1)
        picture = picture * (1 - rim) + random.uniform(0, 60) * rim
    shade = random.uniform(120, 255)
    return picture * (1 - opacity) + shade * opacity


def _archived(picture: npt.NDArray[np.float32], random: np.random.Generator) -> Grey:
    """As an archive keeps it: rounded, compressed with loss in two of three cases."""
    image = Image.fromarray(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
    if random.random() < 0.67:
        stored = BytesIO()
        image.save(stored, str(random.choice(["JPEG", "WEBP"])), quality=int(random.integers(70, 97)))
        image = Image.open(stored).convert("L")
    return np.asarray(image)
