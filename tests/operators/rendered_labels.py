"""Screens with labels as scanners draw them: grey on black or on tissue, compressed with loss.

A label stands on the one or the other, never across the edge of the region.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from operators.site import Site

_DEJAVU = Path("/usr/share/fonts/truetype/dejavu")  # Debian's fonts-dejavu-core
FONTS = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSansMono-Bold.ttf",
    "own",
    "bitmap",
)
_SIDES = {
    "en": {
        "L": ("LT BREAST", "LEFT BREAST", "L BREAST", "LT"),
        "R": ("RT BREAST", "RIGHT BREAST", "R BREAST", "RT"),
    },
    "pt": {
        "L": ("MAMA ESQ", "MAMA ESQUERDA", "MAMA E", "ESQ"),
        "R": ("MAMA DIR", "MAMA DIREITA", "MAMA D", "DIR"),
    },
    "de": {
        "L": ("LI BRUST", "LINKE BRUST", "MAMMA LINKS", "MAMMA LI", "LINKS"),
        "R": ("RE BRUST", "RECHTE BRUST", "MAMMA RECHTS", "MAMMA RE", "RECHTS"),
    },
}
_HOURS = {
    "en": ("{}:00", "{} O'CLOCK", "{}:00"),
    "pt": ("{}H", "{} H", "{}:00"),
    "de": ("{} UHR", "{} UHR", "{}:00"),
}
_QUADRANTS = {
    "en": ("UOQ", "LIQ", "RAD", "ARAD"),
    "pt": ("QSE", "QSI", "QIE", "QII"),
    "de": ("OAQ", "UIQ", "OIQ"),
}
_TAILS = {
    "en": ("RAD 4CMFN", "ARAD 2CMFN", "RAD", "TRANS", ""),
    "pt": ("RAD", "RETROAREOLAR", ""),
    "de": ("RAD", ""),
}
_CLUTTER = (
    "MI 0.9",
    "FR 31 HZ",
    "12.4 MM",
    "GN 56",
    "L12-5",
    "D 8.4MM",
    "10:42:31",
    "25/11/2026",
    "72%",
    "DR 60",
)


@dataclass(frozen=True)
class Label:
    """A screen, uint8 (600, 800), the lines of its label, and what they say."""

    grey: np.ndarray
    lines: tuple[str, ...]
    language: str
    font: str
    site: Site


def render_label(random: np.random.Generator) -> Label:
    """One seeded screen."""
    language = str(random.choice(list(_SIDES)))
    lines, site = _words(language, random)
    picture = Image.fromarray(_screen(random))
    draw = ImageDraw.Draw(picture)
    font = str(random.choice(FONTS))
    height = int(random.integers(13, 25))
    for words, place in zip(
        random.choice(_CLUTTER, 4, replace=False), ((8, 4), (640, 4), (690, 300), (8, 570)), strict=True
    ):
        _write(picture, draw, place, str(words), 14, font, 170)
    on_tissue = random.random() < 0.4
    x, y = (
        (int(random.integers(130, 300)), int(random.integers(330, 470)))
        if on_tissue
        else (8, int(random.integers(28, 38)))
    )
    if not on_tissue and random.random() < 0.5:
        x, y = int(random.integers(130, 380)), 538
    for number, line in enumerate(lines):
        _write(
            picture,
            draw,
            (x, y + round(number * height * 1.4)),
            line,
            height,
            font,
            int(random.integers(150, 256)),
        )
    stored = BytesIO()
    picture.save(stored, "JPEG", quality=int(random.integers(60, 96)))
    return Label(np.asarray(Image.open(stored).convert("L")), lines, language, font, site)


def _words(language: str, random: np.random.Generator) -> tuple[tuple[str, ...], Site]:
    side = str(random.choice(["L", "R"]))
    words = str(random.choice(_SIDES[language][side]))
    hour = int(random.integers(1, 13)) if random.random() < 0.7 else None
    second = (
        str(random.choice(_HOURS[language])).format(hour)
        if hour
        else str(random.choice(_QUADRANTS[language]))
    )
    tail = str(random.choice(_TAILS[language]))
    lines = (
        (f"{words} {second} {tail}".strip(),)
        if random.random() < 0.6
        else (words, f"{second} {tail}".strip())
    )
    return lines, Site(side, hour)


def _screen(random: np.random.Generator) -> np.ndarray:
    grey = np.full((600, 800), int(random.integers(0, 25)), np.uint8)
    speckle = random.rayleigh(random.uniform(15, 45), (430, 560))
    speckle *= np.linspace(1.3, 0.4, 430)[:, None]
    soft = Image.fromarray(np.clip(speckle, 0, 255).astype(np.uint8)).resize((280, 430)).resize((560, 430))
    grey[100:530, 120:680] = np.asarray(soft)
    return grey


def _write(
    picture: Image.Image,
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    words: str,
    height: int,
    font: str,
    shade: int,
) -> None:
    if font == "bitmap":
        letters = ImageFont.load_default_imagefont()
        box = letters.getbbox(words)
        small = Image.new("L", (int(box[2]) + 1, int(box[3]) + 1))
        ImageDraw.Draw(small).text((0, 0), words, fill=255, font=letters)
        factor = height / 11
        large = small.resize(
            (round(small.width * factor), round(small.height * factor)), Image.Resampling.BILINEAR
        )
        picture.paste(shade, place, large)
        return
    face = (
        ImageFont.load_default(size=height) if font == "own" else ImageFont.truetype(_DEJAVU / font, height)
    )
    draw.text(place, words, fill=shade, font=face)
