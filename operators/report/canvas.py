"""Drawing text, outlines and scales on RGB pictures: one font, two sizes, black on white only in shape.

Promises: text stays inside its width; an outline is seen on light and on dark tissue (white within black),
so nothing is told by colour alone.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

SMALL, LARGE = 15, 21  # font sizes, pixels
_LINE = 1.35  # from line to line, in font sizes
_DOTS_LIGHT, _DOTS_DARK, _BRIGHT = 170, 60, 115  # dotted edges: light on what is darker than _BRIGHT
_WHITE, _GREY, _BLACK = (255, 255, 255), (150, 150, 150), (0, 0, 0)
RGB = npt.NDArray[np.uint8]
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@functools.cache
def _font(size: int) -> _Font:
    return ImageFont.load_default(size=size)


@dataclass(frozen=True)
class Box:
    """Where something was put, in pixels, right and bottom exclusive; `words` is empty for a picture."""

    left: int
    top: int
    right: int
    bottom: int
    words: str = ""

    def overlaps(self, other: Box) -> bool:
        """Whether the two share a pixel."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom


class Canvas:
    """A black RGB picture of `width` pixels that is written on from top to bottom and grows as it must.

    `boxes`: what was put on it, each line of text and each picture.
    """

    def __init__(self, width: int, height: int) -> None:
        self._picture = Image.new("RGB", (width, height), _BLACK)
        self._draw = ImageDraw.Draw(self._picture)
        self.boxes: list[Box] = []

    def reach(self, height: int) -> None:
        """Make the picture at least `height` pixels high."""
        if height > self._picture.height:
            higher = Image.new("RGB", (self._picture.width, height), _BLACK)
            higher.paste(self._picture, (0, 0))
            self._picture, self._draw = higher, ImageDraw.Draw(higher)

    @property
    def pixels(self) -> RGB:
        """The picture, uint8 (height, width, 3)."""
        return np.asarray(self._picture).copy()

    def paste_grey(self, grey: npt.NDArray[np.uint8], x: int, y: int) -> None:
        """Put a grey picture, uint8 (rows, columns), with its pixels untouched."""
        rows, columns = grey.shape
        self.reach(y + rows)
        self._picture.paste(Image.fromarray(grey).convert("RGB"), (x, y))
        self.boxes.append(Box(x, y, x + columns, y + rows))

    def outline(self, points: npt.NDArray[np.float32]) -> None:
        """Draw a closed outline (x, y): white within black. Its label stands beside the picture."""
        closed = [(float(x), float(y)) for x, y in (*points, points[0])]
        self._draw.line(closed, fill=_BLACK, width=3)
        self._draw.line(closed, fill=_WHITE, width=1)

    def text(self, words: str, x: int, y: int, width: int, *, size: int = SMALL, quiet: bool = False) -> int:
        """Write words, broken to `width` pixels; returns where the next line starts."""
        for line in wrap(words, width, size):
            self.reach(y + round(size * _LINE))
            self._draw.text((x, y), line, fill=_GREY if quiet else _WHITE, font=_font(size))
            left, top, right, bottom = self._draw.textbbox((x, y), line, font=_font(size))
            self.boxes.append(Box(int(left), int(top), math.ceil(right), math.ceil(bottom), line))
            y += round(size * _LINE)
        return y

    def scale(
        self,
        labels: tuple[str, ...],
        values: tuple[float, float, float],
        marked: int | None,
        place: tuple[int, int],
    ) -> int:
        """A bar from 0% to 100% with interval and marker, and boxes of which one is marked.

        `values`: low, value, high in 0..1. Returns where the next line starts.
        """
        (x, y), width = place, 300
        self.reach(y + 80)
        self._draw.rectangle((x, y + 6, x + width, y + 14), outline=_GREY)
        low, value, high = (x + round(share * width) for share in values)
        self._draw.rectangle((low, y + 8, max(high, low + 1), y + 12), fill=_GREY)
        self._draw.polygon(((value, y + 4), (value - 6, y - 5), (value + 6, y - 5)), fill=_WHITE)
        self._draw.text((x, y + 16), "0%", fill=_GREY, font=_font(SMALL))
        self._draw.text((x + width, y + 16), "100%", fill=_GREY, font=_font(SMALL), anchor="ra")
        y += 44
        step = width // len(labels)
        for index, label in enumerate(labels):
            box = (x + index * step, y, x + (index + 1) * step - 4, y + 26)
            chosen = index == marked
            self._draw.rectangle(box, fill=_WHITE if chosen else None, outline=_GREY)
            centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
            self._draw.text(centre, label, fill=_BLACK if chosen else _GREY, font=_font(SMALL), anchor="mm")
        return y + 36


def wrap(words: str, width: int, size: int = SMALL) -> list[str]:
    """Lines of `words` that are at most `width` pixels wide; a word that is wider is cut."""
    font = _font(size)
    lines = [""]
    for word in words.split():
        while font.getlength(word) > width and len(word) > 1:
            word = word[: len(word) * 9 // 10]
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def height_of(words: str, width: int, size: int = SMALL) -> int:
    """Pixels that `words`, broken to `width` pixels, take from top to bottom."""
    return len(wrap(words, width, size)) * round(size * _LINE)


def shrunk(grey: npt.NDArray[np.uint8], width: int, height: int) -> tuple[npt.NDArray[np.uint8], float]:
    """A grey picture made to fit, and the scale it was made with (never above 1)."""
    scale = min(width / grey.shape[1], height / grey.shape[0], 1.0)
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    return np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.LANCZOS)), scale


def dotted(grey: npt.NDArray[np.uint8], patches: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """The picture, uint8 (rows, columns), with a dotted line along the inside of each patch's edge.

    `patches`: bool, of the picture's shape, or larger where the picture was made smaller. Pixels outside
    the patches stay as they are.
    """
    if patches.shape != grey.shape:
        size = (grey.shape[1], grey.shape[0])
        patches = np.asarray(Image.fromarray(patches).resize(size, Image.Resampling.NEAREST))
    rows, columns = np.indices(grey.shape)
    dots = patches & ~ndimage.binary_erosion(patches) & ((rows + columns) % 4 < 2)
    return np.where(dots, np.where(grey < _BRIGHT, _DOTS_LIGHT, _DOTS_DARK), grey).astype(np.uint8)
