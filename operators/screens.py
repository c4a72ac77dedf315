"""Screens without a picture of tissue: pages of text, and the windows of a computer.

Promises: told from even areas and the size of what stands on them. An ultrasound picture has hardly an area
that is even and bright.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from models.runtime.preprocess import Grey
from operators.study import Reason

_BLOCK = 8
_EVEN_SHARE = 0.25  # of the blocks of a screen that are even and bright
_EVEN_GREY = 64
_PAPER_SHARE = 0.60  # of the pixels of a page that have the grey of the paper
_PAPER_WIDTH = 8  # grey levels around it
_GLYPHS = 20  # letters that make a page
_GLYPH_HEIGHT, _GLYPH_WIDTH = (4, 40), (1, 120)  # pixels; letters may touch
_GLYPH_SHARE = 0.5  # of what stands on the paper


def screen_reason(grey: Grey) -> tuple[Reason, str] | None:
    """Why a region, uint8 (rows, columns), is a screen of text or windows; None where it is not."""
    if shows_text(grey):
        return Reason.TEXT_SCREEN, "The picture is a page of text."
    if _bright_even_share(grey) >= _EVEN_SHARE:
        return Reason.SCREENSHOT, "The picture is a computer's screen: large areas of it are even and bright."
    return None


def shows_text(grey: Grey) -> bool:
    """Whether most of what stands on an even ground is letters."""
    counts = np.bincount(grey.ravel(), minlength=256)
    paper = int(np.convolve(counts, np.ones(_PAPER_WIDTH), "same").argmax())
    ink = np.abs(grey.astype(np.int16) - paper) > _PAPER_WIDTH
    if ink.mean() > 1 - _PAPER_SHARE:
        return False
    labels, count = ndimage.label(ink, structure=np.ones((3, 3)))
    if count < _GLYPHS:
        return False
    sizes = np.bincount(labels.ravel())[1:]
    boxes = [tuple(axis.stop - axis.start for axis in box) for box in ndimage.find_objects(labels)]
    glyphs = np.array(
        [_within(height, _GLYPH_HEIGHT) and _within(width, _GLYPH_WIDTH) for height, width in boxes]
    )
    return bool(glyphs.sum() >= _GLYPHS and sizes[glyphs].sum() >= _GLYPH_SHARE * sizes.sum())


def _within(size: int, limits: tuple[int, int]) -> bool:
    return limits[0] <= size <= limits[1]


def _bright_even_share(grey: Grey) -> float:
    """Share of 8 x 8 blocks that are bright and of one grey level."""
    rows, columns = (size // _BLOCK for size in grey.shape)
    if not rows or not columns:
        return 0.0
    blocks = grey[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK)
    even = blocks.max(axis=(1, 3)) - blocks.min(axis=(1, 3)) <= 1
    return float((even & (blocks.max(axis=(1, 3)) >= _EVEN_GREY)).mean())
