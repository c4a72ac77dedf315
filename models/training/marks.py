"""Painted callipers and text: what scanners burn into pictures, drawn at random.

Promises: positions, styles and sizes come from the generator given and from nothing else, least of all
from lesion or class, so that a network trained with them can learn nothing from a mark.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

_WORDS = (
    "MAMA",
    "DIR",
    "ESQ",
    "QSE",
    "LT BREAST",
    "RT",
    "2:00",
    "RAD",
    "D1",
    "12.4MM",
    "8.1 cm",
    "42",
    "A",
    "B",
    "1",
    "3",
)


class Style(StrEnum):
    """How a calliper is drawn."""

    UPRIGHT = "upright"
    DIAGONAL = "diagonal"
    STAR = "star"
    DOTTED = "dotted"


def paint_marks(
    rows: int,
    columns: int,
    random: np.random.Generator,
    *,
    callipers: bool = True,
    text: bool | None = None,
) -> npt.NDArray[np.uint8]:
    """Opacity of random marks on an empty picture: uint8 (rows, columns), 0 where nothing is drawn.

    `text`: None leaves it to a coin.
    """
    canvas = Image.new("L", (columns, rows), 0)
    draw = ImageDraw.Draw(canvas)
    if callipers:
        for _ in range(int(random.integers(1, 5))):
            _calliper(draw, random.uniform(0, columns), random.uniform(0, rows), random)
    if random.random() < 0.5 if text is None else text:
        size = random.uniform(0.03, 0.07) * max(rows, columns)
        font = ImageFont.load_default(size=max(7, size))
        words = " ".join(random.choice(_WORDS, int(random.integers(1, 4))))
        place = (random.uniform(0, 0.7) * columns, random.uniform(0, 0.95) * rows)
        draw.text(place, words, fill=int(random.integers(150, 256)), font=font)
    return np.asarray(canvas)


def _calliper(draw: ImageDraw.ImageDraw, x: float, y: float, random: np.random.Generator) -> None:
    arm, shade, style = random.uniform(1.5, 5), int(random.integers(140, 256)), int(random.integers(0, 4))
    draw_calliper(draw, (x, y), arm, shade, tuple(Style)[style], random)


def draw_calliper(
    draw: ImageDraw.ImageDraw,
    centre: tuple[float, float],
    arm: float,
    shade: int,
    style: Style,
    random: np.random.Generator,
) -> None:
    """One calliper with its centre (x, y) in pixels; a dotted one is a line of 16 dots that starts there."""
    x, y = centre
    if style in (Style.UPRIGHT, Style.STAR):
        draw.line((x - arm, y, x + arm, y), fill=shade)
        draw.line((x, y - arm, x, y + arm), fill=shade)
    if style in (Style.DIAGONAL, Style.STAR):
        draw.line((x - arm, y - arm, x + arm, y + arm), fill=shade)
        draw.line((x - arm, y + arm, x + arm, y - arm), fill=shade)
    if style is Style.DOTTED:
        end = (x + random.uniform(-60, 60), y + random.uniform(-60, 60))
        for share in np.linspace(0, 1, 16):
            draw.point((x + share * (end[0] - x), y + share * (end[1] - y)), fill=shade)


def mark_bank(side: int, count: int, seed: int) -> npt.NDArray[np.uint8]:
    """`count` squares of random marks, uint8 (count, side, side), for fast augmentation."""
    random = np.random.default_rng(seed)
    return np.stack([paint_marks(side, side, random) for _ in range(count)])
